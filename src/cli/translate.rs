//! A Celery application's routes and queues, as its own interpreter told them, in our TOML. What cannot be translated stays as a
//! comment, so that nobody believes it was.

use serde_json::{Map, Value};

use crate::policy::Pattern;

/// The TOML, and what of the application it does not say.
#[derive(Debug, Default)]
pub struct Translated {
    /// A configuration's part.
    pub toml: String,
    /// What could not be translated, one a line.
    pub left_out: Vec<String>,
    /// Queues that routes brought with them.
    queues: Vec<Value>,
}

/// Celery's settings and our keys in `[policy]`.
const SETTINGS: &[(&str, &str)] = &[
    ("task_default_queue", "default_queue"),
    ("task_default_queue_type", "default_queue_type"),
    ("task_default_exchange", "default_exchange"),
    ("task_default_exchange_type", "default_exchange_type"),
    ("task_default_routing_key", "default_routing_key"),
    ("task_create_missing_queues", "create_missing_queues"),
    ("task_create_missing_queue_type", "create_missing_queue_type"),
    ("task_create_missing_queue_exchange_type", "create_missing_queue_exchange_type"),
    ("task_queue_max_priority", "queue_max_priority"),
];
/// A route's keys that mean the same here.
const ROUTE_KEYS: &[&str] = &[
    "queue",
    "exchange",
    "exchange_type",
    "routing_key",
    "priority",
    "delivery_mode",
    "expiration",
    "mandatory",
    "compression",
    "headers",
];

/// Translates what `import.py` prints.
///
/// # Errors
/// What was expected of the JSON.
pub fn translate(json: &str) -> Result<Translated, String> {
    let value: Value = serde_json::from_str(json).map_err(|e| format!("not JSON: {e}"))?;
    let app = value.as_object().ok_or("expected a JSON object with task_routes and task_queues")?;
    let mut out = Translated::default();
    let name = app.get("app").and_then(Value::as_str).unwrap_or("a Celery application");
    out.toml += &format!(
        "# Imported from {name}. Once producers no longer route for themselves, this decides for all of them.\n\n"
    );
    out.settings(app);
    let mut routes = Translated::default();
    for (number, router) in app.get("task_routes").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        routes.router(number, router);
    }
    let mut queues: Vec<Value> =
        app.get("task_queues").and_then(Value::as_array).cloned().unwrap_or_default();
    // A queue that only a route names is no member of `task_queues`: where there are none, the default one stays known.
    if queues.is_empty() && !routes.queues.is_empty() {
        queues.push(default_queue(app));
    }
    queues.append(&mut routes.queues);
    let mut known: Vec<&Value> = Vec::new();
    for queue in &queues {
        match known.iter().find(|other| other.get("name") == queue.get("name")) {
            None => out.queue(queue),
            Some(same) if *same == queue => {}
            Some(_) => out.leave_out(&format!("a second queue of the same name: {queue}")),
        }
        known.push(queue);
    }
    out.toml += &routes.toml;
    out.left_out.append(&mut routes.left_out);
    Ok(out)
}

/// The default queue as Celery makes it where `task_queues` is empty.
fn default_queue(app: &Map<String, Value>) -> Value {
    let setting = |key: &str, default: &Value| app.get(key).cloned().unwrap_or_else(|| default.clone());
    let name = setting("task_default_queue", &"celery".into());
    let kind = app.get("task_default_queue_type").filter(|kind| *kind == "quorum");
    serde_json::json!({
        "name": name,
        "exchange": setting("task_default_exchange", &name),
        "exchange_type": setting("task_default_exchange_type", &"direct".into()),
        "routing_key": setting("task_default_routing_key", &name),
        "arguments": kind.map_or_else(|| serde_json::json!({}), |kind| serde_json::json!({ "x-queue-type": kind })),
    })
}

impl Translated {
    fn settings(&mut self, app: &Map<String, Value>) {
        self.toml += "[policy]\n";
        let queue = app.get("task_default_queue").and_then(Value::as_str).unwrap_or("celery");
        for (theirs, ours) in SETTINGS {
            let default: Value = match *theirs {
                "task_default_queue" => "celery".into(),
                "task_default_exchange" | "task_default_routing_key" => queue.into(),
                "task_default_exchange_type" => "direct".into(),
                "task_create_missing_queues" => true.into(),
                "task_default_queue_type" | "task_create_missing_queue_type" => "classic".into(),
                _ => "".into(),
            };
            if let Some(value) = app.get(*theirs).filter(|v| !v.is_null() && **v != default) {
                self.line(ours, value);
            }
        }
        self.toml.push('\n');
        let priority = app.get("task_default_priority").filter(|v| v.is_u64());
        if let Some(priority) = priority {
            self.toml += &format!(
                "[[rules]]\nname = \"task_default_priority\"\npriority = {{ default = {priority} }}\n\n"
            );
        }
    }

    fn leave_out(&mut self, what: &str) {
        self.toml += &format!("# Not translated: {}\n", what.replace('\n', " "));
        self.left_out.push(what.to_owned());
    }

    fn router(&mut self, number: usize, router: &Value) {
        if let Some(function) = router.get("$function").and_then(Value::as_str) {
            self.leave_out(&format!(
                "router {number} is the function {function}: what it decides is known to Python alone. \
                 Keep it in the producers (an explicit destination is respected), or write its cases as rules."
            ));
            self.toml.push('\n');
            return;
        }
        let entries = router.as_array().map(Vec::as_slice).unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            let [kind, name] = [entry.get(0), entry.get(1)].map(|v| v.cloned().unwrap_or_default());
            let Some(mut value) = kept(entries, index) else { continue };
            if goes_nowhere(&value) {
                self.leave_out(&format!(
                    "the exchange of the route for {name}: without a routing key Celery publishes to nowhere"
                ));
                value.as_object_mut().map(|route| route.remove("exchange"));
            }
            match task(kind.as_str().unwrap_or_default(), &name) {
                Ok(task) => self.route(number, &task, &value),
                Err(why) => self.leave_out(&format!("a route for {name}: {why}")),
            }
            self.toml.push('\n');
        }
    }

    fn route(&mut self, number: usize, task: &str, value: &Value) {
        self.toml += &format!("[[task_routes]]\ntask = {task}\n");
        if number > 0 {
            self.toml += &format!("router = {number}\n");
        }
        let named = Map::from_iter([("queue".to_owned(), value.clone())]);
        for (key, value) in value.as_object().unwrap_or(&named) {
            if value.is_null() {
                continue;
            }
            if let Some(queue) = value.get("$queue") {
                self.queues.push(queue.clone());
                self.line(key, queue.get("name").unwrap_or(&Value::Null));
            } else if ROUTE_KEYS.contains(&key.as_str()) {
                self.line(key, value);
            } else {
                self.leave_out(&format!(
                    "{key} = {value} in the route for {task}: it means nothing on the wire"
                ));
            }
        }
    }

    fn queue(&mut self, queue: &Value) {
        let text = |key: &str| queue.get(key).and_then(Value::as_str).unwrap_or_default();
        let flag = |key: &str, default: bool| queue.get(key).and_then(Value::as_bool).unwrap_or(default);
        let (name, exchange) = (text("name").to_owned(), text("exchange").to_owned());
        self.toml += &format!("[[task_queues]]\nname = {}\n", quoted(&name));
        if flag("broadcast", false) {
            self.toml += "broadcast = true\n\n";
            return;
        }
        if !exchange.is_empty() {
            let kind = text("exchange_type");
            self.toml += &format!(
                "exchange = {}\nexchange_type = {}\n",
                quoted(&exchange),
                quoted(if kind.is_empty() { "direct" } else { kind })
            );
        }
        if !text("routing_key").is_empty() {
            self.toml += &format!("routing_key = {}\n", quoted(text("routing_key")));
        }
        for (key, default) in [("durable", true), ("auto_delete", false), ("no_declare", false)] {
            if flag(key, default) != default {
                self.toml += &format!("{key} = {}\n", !default);
            }
        }
        // Kombu counts these two in seconds.
        for key in ["expires", "message_ttl"] {
            if let Some(seconds) = queue.get(key).and_then(Value::as_f64) {
                self.toml += &format!("{key} = \"{seconds}s\"\n");
            }
        }
        for key in ["max_length", "max_length_bytes", "max_priority"] {
            if let Some(value) = queue.get(key).filter(|v| v.is_u64()) {
                self.line(key, value);
            }
        }
        let arguments = queue
            .get("arguments")
            .or_else(|| queue.get("queue_arguments"))
            .filter(|v| v.as_object().is_some_and(|o| !o.is_empty()));
        if let Some(arguments) = arguments {
            self.line("arguments", arguments);
        }
        self.toml.push('\n');
    }

    /// `key = value`, if TOML and we have such a value; a comment otherwise.
    fn line(&mut self, key: &str, value: &Value) {
        match toml_value(value) {
            Some(text) => self.toml += &format!("{key} = {text}\n"),
            None => self.leave_out(&format!("{key} = {value}")),
        }
    }
}

/// The value of an entry as Celery keeps it: names and patterns are a dict's keys, so of equal ones the first gives the place and
/// the last the value. None for those after the first.
fn kept(entries: &[Value], index: usize) -> Option<Value> {
    let key = |entry: &Value| {
        let mut name = entry.get(1).cloned().unwrap_or_default();
        if let Value::String(glob) = &mut name {
            // Python's fnmatch reads several stars as one.
            while glob.contains("**") {
                *glob = glob.replace("**", "*");
            }
        }
        (entry.get(0).cloned(), name)
    };
    let own = key(entries.get(index)?);
    let (before, from) = entries.split_at_checked(index)?;
    let first = !before.iter().any(|entry| key(entry) == own);
    first.then(|| from.iter().rev().find(|entry| key(entry) == own)?.get(2).cloned()).flatten()
}

/// Whether Celery publishes this to the anonymous exchange with an empty key, where nothing is.
fn goes_nowhere(route: &Value) -> bool {
    let text = |key: &str| route.get(key).and_then(Value::as_str).unwrap_or_default();
    let has = |key: &str| route.get(key).is_some_and(|v| !v.is_null() && v != "");
    has("exchange") && !has("routing_key") && !has("queue") && matches!(text("exchange_type"), "" | "direct")
}

/// The task of an entry as TOML.
fn task(kind: &str, name: &Value) -> Result<String, String> {
    if kind != "regex" {
        return name.as_str().map(quoted).ok_or_else(|| "expected a name".to_owned());
    }
    let (pattern, flags) = match name {
        Value::String(pattern) => (pattern.clone(), 0),
        other => {
            let pattern = other.get("pattern").and_then(Value::as_str).unwrap_or_default();
            (pattern.to_owned(), other.get("flags").and_then(Value::as_u64).unwrap_or(0))
        }
    };
    // Python's re.IGNORECASE, MULTILINE, DOTALL, VERBOSE.
    let letters: String = [(2, 'i'), (8, 'm'), (16, 's'), (64, 'x')]
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, c)| *c)
        .collect();
    let pattern = if letters.is_empty() { pattern } else { format!("(?{letters}){pattern}") };
    match Pattern::regex(&pattern) {
        Ok(_) => Ok(format!("{{ regex = {} }}", quoted(&pattern))),
        Err(why) => Err(format!("its regex is one that only Python reads ({why})")),
    }
}

fn toml_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quoted(text)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Object(object) => {
            let pair =
                |(key, value): (&String, &Value)| Some(format!("{} = {}", quoted(key), toml_value(value)?));
            let pairs: Option<Vec<String>> = object.iter().map(pair).collect();
            Some(format!("{{ {} }}", pairs?.join(", ")))
        }
        Value::Null | Value::Array(_) => None,
    }
}

/// A TOML basic string. JSON's escapes are TOML's, but for the delete character.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Nothing};

    #[test]
    fn routes_queues_and_settings_become_toml_that_loads_and_functions_stay_comments() {
        let json = r#"{"app": "proj:app", "task_default_queue": "jobs", "task_default_priority": 5,
            "task_queues": [{"name": "tq", "exchange": "media", "exchange_type": "topic", "routing_key": "media.#",
                             "message_ttl": 1.5, "arguments": {"x-max-priority": 5}}],
            "task_routes": [[["glob", "feeds.*", {"queue": "feeds"}], ["exact", "a.b", {"queue": {"$queue": {"name": "q", "exchange": "x"}}}]],
                            {"$function": "proj.route"},
                            [["regex", {"pattern": "vid", "flags": 34}, {"queue": "v", "serializer": "json"}],
                             ["regex", {"pattern": "(?<=a)b", "flags": 32}, "w"]]]}"#;
        let translated = translate(json).unwrap();
        let config =
            Config::parse(&translated.toml, &Nothing).unwrap_or_else(|p| panic!("{p}\n{}", translated.toml));
        assert_eq!(config.policy.task_routes().len(), 3);
        assert_eq!(config.policy.queues().settings().default_queue, "jobs");
        assert_eq!(translated.left_out.len(), 3, "{:?}", translated.left_out);
        assert!(translated.toml.contains("# Not translated: router 1 is the function proj.route"));
        assert!(translated.toml.contains("regex = \"(?i)vid\""));
    }

    #[test]
    fn of_equal_names_the_last_value_counts_and_what_celery_sends_nowhere_stays_where_it_was_going() {
        let json = r#"{"task_routes": [[["exact", "a", "x"], ["exact", "a", "y"], ["glob", "b.*", "first"], ["glob", "b.**", "second"],
                                        ["exact", "lost", {"exchange": "e"}], ["exact", "q", {"queue": {"$queue": {"name": "q", "exchange": "e"}}}]]]}"#;
        let translated = translate(json).unwrap();
        let toml = &translated.toml;
        let config = Config::parse(toml, &Nothing).unwrap_or_else(|p| panic!("{p}\n{toml}"));
        assert_eq!(config.policy.task_routes().len(), 4);
        assert!(toml.contains("queue = \"y\"") && !toml.contains("queue = \"x\""), "{toml}");
        assert!(toml.contains("queue = \"second\"") && !toml.contains("first"), "{toml}");
        assert_eq!(translated.left_out.len(), 1, "{:?}", translated.left_out);
        assert!(config.policy.queues().knows("celery"), "the default queue stays known beside a route's own");
    }
}
