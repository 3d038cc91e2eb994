//! The parts of the engine, each against a map that says what it must hold.

mod index;
mod pool;
mod wheel;

pub use index::index;
pub use pool::pool;
pub use wheel::wheel;
