//! Celery's and Kombu's messages: which publishes are tasks, what they say of themselves, and the few messages that we write.
//!
//! Knows nothing of policy or connections. Bodies are read, never executed, by readers that do not recurse and whose memory is
//! bounded (S1, P7). What cannot be read is said to be so, and is nobody's to change.

pub mod body;
pub mod compression;
pub mod delayed;
pub mod encoding;
pub mod field;
mod json;
mod msgpack;
mod pickle;
pub mod reading;
pub mod result;
pub mod rewrite;
pub mod task;
pub mod time;
mod yaml;

pub use body::{BodyLimits, Serializer, Unreadable};
pub use encoding::Encoding;
pub use field::{Stated, Text, TimeLimit};
pub use reading::{NotTask, Publish, Reading, read, told_without_body};
pub use task::{Protocol, Task};
pub use time::Instant;
