//! placeholder
use super::body::Unreadable;
use super::field::Fields;
pub(crate) fn fields(_: &[u8]) -> Result<Option<Fields<'_>>, Unreadable> {
    Err(Unreadable::Syntax)
}
