//! A patch to a content header: what to set and remove. `splice` applies it.

use super::compose::write_name;
use super::property::Property;
pub use super::splice::PatchError;
use super::value::Value;

/// A short string over 255 octets, or a property that is not a short string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotShort;

/// What to change of one content header. Empty, it is the identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderPatch {
    pub(super) body_size: Option<u64>,
    /// The new bytes of a property as they go on the wire (lengths included), or `None`: remove it.
    pub(super) properties: Vec<(Property, Option<Vec<u8>>)>,
    /// A header's name, and its new tag and value, or `None`: remove it.
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl HeaderPatch {
    /// A patch that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body_size.is_none() && self.properties.is_empty() && self.headers.is_empty()
    }

    /// The body is now so long.
    pub fn set_body_size(&mut self, octets: u64) -> &mut Self {
        self.body_size = Some(octets);
        self
    }

    /// Sets the priority.
    pub fn set_priority(&mut self, priority: u8) -> &mut Self {
        self.edit(Property::Priority, Some(vec![priority]))
    }

    /// Sets the delivery mode; 2 is persistent.
    pub fn set_delivery_mode(&mut self, mode: u8) -> &mut Self {
        self.edit(Property::DeliveryMode, Some(vec![mode]))
    }

    /// Sets the TTL.
    pub fn set_expiration_ms(&mut self, ms: u64) -> &mut Self {
        let mut bytes = Vec::new();
        write_name(&mut bytes, ms.to_string().as_bytes());
        self.edit(Property::Expiration, Some(bytes))
    }

    /// Sets a property that is a short string (content type, encoding, correlation id, expiration, …).
    pub fn set_short(&mut self, property: Property, value: &[u8]) -> Result<&mut Self, NotShort> {
        if !property.is_short() || value.len() > usize::from(u8::MAX) {
            return Err(NotShort);
        }
        let mut bytes = Vec::with_capacity(value.len() + 1);
        write_name(&mut bytes, value);
        Ok(self.edit(property, Some(bytes)))
    }

    /// Removes a property; [`Property::Headers`] removes the whole table.
    pub fn remove(&mut self, property: Property) -> &mut Self {
        self.edit(property, None)
    }

    /// Sets a header: every entry of that name is replaced where it stands, else one is appended. Names end at 255 octets.
    pub fn set_header(&mut self, name: &[u8], value: &Value<'_>) -> &mut Self {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        self.edit_header(name, Some(bytes))
    }

    /// Sets a header to a string.
    pub fn set_header_str(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        self.set_header(name, &Value::Str(value))
    }

    /// Removes a header, every entry of that name.
    pub fn remove_header(&mut self, name: &[u8]) -> &mut Self {
        self.edit_header(name, None)
    }

    /// The value that this patch sets `name` to: `Some(None)` removes it, `None` leaves it.
    #[must_use]
    pub fn header_edit(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_deref())
    }

    fn edit(&mut self, property: Property, value: Option<Vec<u8>>) -> &mut Self {
        self.properties.retain(|(p, _)| *p != property);
        self.properties.push((property, value));
        self
    }

    pub(super) fn edit_header(&mut self, name: &[u8], value: Option<Vec<u8>>) -> &mut Self {
        let name = name.get(..usize::from(u8::MAX)).unwrap_or(name);
        match self.headers.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.headers.push((name.to_vec(), value)),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_short_string_is_refused() {
        let mut patch = HeaderPatch::new();
        assert_eq!(patch.set_short(Property::ContentType, &[b'x'; 256]).err(), Some(NotShort));
        assert_eq!(patch.set_short(Property::Priority, b"5").err(), Some(NotShort));
        assert!(patch.is_empty());
    }
}
