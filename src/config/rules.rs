//! `[[rules]]`: conditions, and what is said of each aspect.

use super::aspects::{admission, compression, expiry, priorities};
use super::conditions::conditions;
use super::policy::{Known, destination, extras, force};
use super::reader::Section;
use super::upstream::TIERS;
use super::value::Value;
use crate::policy::{Aspect, Force, Match, Mode, Route, Rule, RuleRoute, Target, Traffic, unreachable};

/// `[[rules]]`, with everything that can never be reached noted.
#[must_use]
pub fn rules(root: &Section<'_>, known: &Known<'_>) -> Vec<Rule> {
    let sections = root.sections("rules");
    let rules: Vec<Rule> =
        (1..).zip(&sections).map(|(number, section)| rule(number, section, known)).collect();
    for (later, aspect, earlier) in unreachable(&rules) {
        let name = rules.get(earlier).map(|r| r.name.as_str()).unwrap_or_default();
        let why = format!(
            "never reached: rules[{}] \"{name}\" matches first and speaks of {}",
            earlier + 1,
            aspect.key()
        );
        if let Some(section) = sections.get(later) {
            section.problem_at(aspect.key(), why);
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        let again = rules.iter().take(index).any(|r| r.name == rule.name);
        if let Some(section) = sections.get(index).filter(|_| again) {
            section.problem_at(
                "name",
                format!("two rules are called \"{}\": metrics could not tell them apart", rule.name),
            );
        }
    }
    rules
}

fn rule(number: usize, section: &Section<'_>, known: &Known<'_>) -> Rule {
    let matches = conditions(&section.section_such_as("match", "{ task = \"feeds.*\" }"));
    let speaks = |aspect: Aspect| section.value(aspect.key());
    let rule = Rule {
        name: section.string("name").unwrap_or_else(|| format!("rules[{number}]")),
        mode: if section.flag("dry_run", false) { Mode::Observe } else { Mode::Enforce },
        admission: speaks(Aspect::Admission).and_then(|v| admission(&v, known)),
        expiry: speaks(Aspect::Expiry).and_then(|v| expiry(&v, known)),
        route: speaks(Aspect::Route).and_then(|v| route(&v, &matches, known)),
        priority: speaks(Aspect::Priority).and_then(|v| priorities(&v)),
        compression: speaks(Aspect::Compression).and_then(|v| compression(&v)),
        tier: speaks(Aspect::Tier).and_then(|v| v.choice(TIERS)),
        matches,
    };
    if rule.matches.traffic != Traffic::Tasks {
        for aspect in Aspect::ALL.into_iter().filter(|a| *a != Aspect::Admission && rule.speaks_of(*a)) {
            section.problem_at(aspect.key(), "only tasks have one: `match.traffic` must be \"tasks\"");
        }
    }
    if !Aspect::ALL.into_iter().any(|aspect| section.has(aspect.key())) {
        let words: Vec<&str> = Aspect::ALL.iter().map(|a| a.key()).collect();
        section.problem(format!("says nothing: expected at least one of {}", words.join(", ")));
    }
    section.close();
    rule
}

/// A queue's name, or a table: a destination, `keep`, or `split` over several by `weight`.
fn route(value: &Value<'_>, matches: &Match, known: &Known<'_>) -> Option<RuleRoute> {
    let route = if value.raw().is_str() {
        let route = Route { queue: Some(value.string()?), ..Route::default() };
        let target = Target::resolve(route, known.queues).map_err(|why| value.problem(why)).ok()?;
        RuleRoute { choices: vec![(1, target)], force: Force::Respect }
    } else {
        route_table(&value.table_such_as("{ queue = \"feeds\" }")?, known)?
    };
    let default = known.queues.settings().default_queue.as_bytes();
    let elsewhere =
        matches.queue.as_ref().is_some_and(|names| !names.matches(default) && names.only_exact().is_some());
    if route.moves() && elsewhere && route.force == Force::Respect {
        value.problem("never moves anything: `match.queue` names places that producers chose themselves; add `override = true`");
    }
    Some(route)
}

fn route_table(table: &Section<'_>, known: &Known<'_>) -> Option<RuleRoute> {
    let force = force(table);
    let keep = table.flag("keep", false);
    let choices = match table.value("split") {
        Some(split) => {
            let items = split.one_or_many();
            items.iter().filter_map(|item| choice(&item.section()?, known)).collect()
        }
        None => vec![(1, target(table, known)?)],
    };
    table.close();
    let route = RuleRoute { choices, force };
    if keep && (route.moves() || table.has("split")) {
        table.problem_at("keep", "expected nothing beside `keep = true`");
    }
    let words = [
        "queue",
        "exchange",
        "routing_key",
        "upstream",
        "split",
        "keep",
        "delivery_mode",
        "mandatory",
        "headers",
    ];
    if !words.iter().any(|key| table.has(key)) {
        table.problem("says nothing: expected `queue`, `exchange` and `routing_key`, `upstream`, `split`, or `keep = true`");
    }
    Some(route)
}

fn target(table: &Section<'_>, known: &Known<'_>) -> Option<Target> {
    let mut route = destination(table, known);
    extras(table, &mut route);
    Target::resolve(route, known.queues).map_err(|why| table.problem(why)).ok()
}

fn choice(table: &Section<'_>, known: &Known<'_>) -> Option<(u32, Target)> {
    let weight = table.integer("weight", 1..=1_000_000).and_then(|n| u32::try_from(n).ok());
    if weight.is_none() && !table.has("weight") {
        table.problem("expected `weight`");
    }
    let target = target(table, known);
    table.close();
    Some((weight?, target?))
}
