//! What only tests and fuzzers need: models, a simulated disk, a scheduler.
//!
//! The functions are what the fuzz targets call, with any bytes. The tests call them with inputs
//! that fuzzing found worth keeping (`fuzz/corpus`), and with altered copies of those.

mod choices;
pub(crate) mod disk;
mod index;
mod journal;
mod pool;
mod unsync;
mod wheel;

#[cfg(all(test, shuttle))]
pub(crate) mod interleavings;
#[cfg(test)]
mod replay;

pub use index::index;
pub use journal::{journal_decode, journal_open};
pub use pool::pool;
pub use unsync::unsync;
pub use wheel::wheel;

pub(crate) use choices::Choices;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    macro_rules! replays {
        ($($target:ident)*) => {
            $(
                #[test]
                fn $target() {
                    replay(stringify!($target), super::$target);
                }
            )*
        };
    }

    replays! { wheel index pool unsync journal_decode journal_open }
}
