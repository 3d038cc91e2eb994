//! Keys, and what the cache keeps of one: 128 keyed bits.

use siphasher::sip128::SipHasher13;
use std::hash::{BuildHasher, RandomState};

/// The 128 bits by which a cache knows a key: SipHash-1-3-128 of the key's bytes under the cache's
/// secret.
///
/// Two keys share a fingerprint with odds of 2^-128 a pair. With 10^8 live keys and 10^5 new keys a
/// second, one new message is taken for a duplicate in about 10^18 years; 64 bits would lose some
/// 17 messages a year. The hash is keyed because without a secret, whoever chooses keys could make
/// two that collide, and a collision is a lost message.
///
/// A fingerprint belongs to the secret that made it: one from another cache is meaningless here,
/// unless both were given the same [`Config::secret`](crate::Config::secret).
///
/// SipHash: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012); 1-3 are the rounds,
/// as in Rust's own hash maps.
///
/// ```
/// use oncewheel::{Config, Horizon, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let cache = DedupCache::new(Config::new(horizon).secret([7; 16]))?;
/// let same = DedupCache::new(Config::new(horizon).secret([7; 16]))?;
/// assert_eq!(cache.fingerprint(b"order-1"), same.fingerprint(b"order-1"));
/// assert_ne!(cache.fingerprint(b"order-1"), cache.fingerprint(b"order-2"));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) [u64; 2]);

impl Fingerprint {
    /// Takes 128 bits that the caller already has, a UUID say, in place of hashing.
    ///
    /// **Only for bits that nobody hostile chooses.** Equal bits are the same key, so whoever can
    /// make up bits can silence another's message. Random UUIDs made by your own producers are
    /// fine; a hash without a secret over bytes that come from outside is not. The bits need not be
    /// evenly spread (counters are fine): where a key lies in the cache depends on the cache's
    /// secret as well.
    ///
    /// ```
    /// use oncewheel::Fingerprint;
    /// assert_eq!(Fingerprint::from_u128(42).as_u128(), 42);
    /// ```
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self([bits as u64, (bits >> 64) as u64])
    }

    /// The 128 bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0[0] as u128 | (self.0[1] as u128) << 64
    }
}

/// Anything a delivery can be recognised by: bytes (`&[u8]`, `&str`, `String`, `Vec<u8>`, arrays:
/// all that is `AsRef<[u8]>`), or a ready [`Fingerprint`].
///
/// Keys may have any length; the empty key is a key like any other. The trait is sealed.
///
/// ```
/// # use oncewheel::{Config, Horizon, Verdict, unsync::DedupCache};
/// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
/// let mut cache = DedupCache::new(Config::new(horizon))?;
/// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
/// assert_eq!(cache.insert(b"order-1", None)?, Verdict::Duplicate);
/// assert_eq!(cache.insert(String::from("order-1").into_bytes(), None)?, Verdict::Duplicate);
/// assert_eq!(cache.insert(cache.fingerprint(b"order-1"), None)?, Verdict::Duplicate);
/// # Ok::<(), oncewheel::Error>(())
/// ```
pub trait Key: sealed::Key {}

impl<K: sealed::Key> Key for K {}

pub(crate) mod sealed {
    use super::{Fingerprint, KeyHasher};

    pub trait Key {
        fn fingerprint(&self, hasher: &KeyHasher) -> Fingerprint;
    }

    impl<T: AsRef<[u8]>> Key for T {
        #[inline]
        fn fingerprint(&self, hasher: &KeyHasher) -> Fingerprint {
            let hash = hasher.sip.hash(self.as_ref());
            Fingerprint([hash.h1, hash.h2])
        }
    }

    impl Key for Fingerprint {
        #[inline]
        fn fingerprint(&self, _: &KeyHasher) -> Fingerprint {
            *self
        }
    }

    impl Key for &Fingerprint {
        #[inline]
        fn fingerprint(&self, _: &KeyHasher) -> Fingerprint {
            **self
        }
    }
}

/// Makes fingerprints: a cache's own hasher, from `DedupCache::hasher`, or one of a known secret.
///
/// It is a plain value of 48 bytes and `Copy`, so that keys can be hashed on other threads and at
/// other times than the cache is asked.
///
/// ```
/// use oncewheel::{Config, Horizon, Verdict, unsync::DedupCache};
/// use std::time::Duration;
///
/// let mut cache = DedupCache::new(Config::new(Horizon::new(Duration::from_secs(60), Duration::from_secs(5))))?;
/// let hasher = cache.hasher();
/// let fingerprint = std::thread::spawn(move || hasher.fingerprint("order-1")).join().unwrap();
/// assert_eq!(cache.insert(fingerprint, None)?, Verdict::Fresh);
/// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct KeyHasher {
    sip: SipHasher13,
    /// For where keys lie in the index: no call tells a caller anything about it.
    inner: SipHasher13,
}

impl KeyHasher {
    /// The hasher of the caches with this [`Config::secret`](crate::Config#structfield.secret).
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        let inner = secret.map(|byte| byte ^ 0x5a);
        Self { sip: SipHasher13::new_with_key(&secret), inner: SipHasher13::new_with_key(&inner) }
    }

    /// Of the secret, or of a random one.
    pub(crate) fn of(secret: Option<[u8; 16]>) -> Self {
        Self::new(secret.unwrap_or_else(random))
    }

    /// The fingerprint of a key. Takes some 10 to 20 ns for short keys.
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, key: impl Key) -> Fingerprint {
        key.fingerprint(self)
    }

    /// 128 bits that nobody outside can derive.
    pub(crate) fn index_key(&self) -> [u64; 2] {
        let hash = self.inner.hash(b"where a key lies in the index");
        [hash.h1, hash.h2]
    }

    /// Tells a journal's segment that was written under this secret from one under another, and
    /// reveals nothing of the secret.
    pub(crate) fn check(&self, salt: u64) -> u64 {
        let mut message = *b"a segment's salt is ........";
        message[20..].copy_from_slice(&salt.to_le_bytes());
        self.inner.hash(&message).h1
    }
}

/// The secret is not shown.
impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

/// 128 bits from the standard library's own randomness, which saves a dependency: two outputs of
/// SipHash under the keys of two `RandomState`s. The operating system seeds those, and neither
/// reveals the other through the hash.
pub(crate) fn random() -> [u8; 16] {
    let half = || RandomState::new().hash_one(0x6f6e_6365_7768_6565_u64).to_le_bytes();
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&half());
    secret[8..].copy_from_slice(&half());
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by an implementation of the published algorithm of its own, in another language,
    /// which gives the authors' vectors for SipHash-2-4-128. Fingerprints that are kept somewhere
    /// depend on this.
    #[test]
    fn a_fingerprint_is_siphash_1_3_128_and_stays_so() {
        let hasher = KeyHasher::new(std::array::from_fn(|byte| byte as u8));
        let vectors: [(&[u8], u64, u64); 3] = [
            (b"", 0xbea58827b2bc7ee7, 0x013030dd6adb62fd),
            (&(0..15).collect::<Vec<u8>>(), 0x6c52bdb205557ec1, 0x09017e1eeccd2129),
            (b"10.20.5.11/17/1795302291895/0", 0x43f0716380fb82db, 0xd1701f42d66d2565),
        ];
        for (key, low, high) in vectors {
            assert_eq!(hasher.fingerprint(key), Fingerprint([low, high]), "{key:?}");
        }
    }

    #[test]
    fn two_random_secrets_differ() {
        assert_ne!(random(), random());
    }
}
