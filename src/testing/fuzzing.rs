//! What the fuzz targets call, with any bytes. The tests call it with inputs that fuzzing found
//! worth keeping (`fuzz/corpus`), and with altered copies of those.

mod choices;
mod index;
mod journal;
mod pool;
mod unsync;
mod wheel;

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
