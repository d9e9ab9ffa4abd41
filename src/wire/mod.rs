//! AMQP 0-9-1 as bytes: frames, methods, content headers, field tables, and patches to them.
//!
//! Knows nothing of connections, of Celery or of policy. Nothing here recurses on input (S2) and nothing takes memory that the
//! input's own length does not bound (S1).

pub mod check;
pub mod compose;
pub mod frame;
pub mod method;
pub mod num;
pub mod outline;
pub mod patch;
pub mod property;
pub mod props;
pub mod reader;
pub mod splice;
pub mod table;
pub mod value;

pub use check::{TableLimits, check_table};
pub use compose::NewHeader;
pub use frame::{ChannelId, Frame, FrameError, FrameKind};
pub use patch::HeaderPatch;
pub use props::{ContentHeader, Property, PropsError};
pub use reader::{Reader, Short};
pub use table::{Array, Entry, Field, Table, TableError, TableWriter};
pub use value::Value;
