//! Models of the engine's parts: each part runs against a map of what it must hold.

mod index;
mod pool;
mod wheel;

pub use index::index;
pub use pool::pool;
pub use wheel::wheel;
