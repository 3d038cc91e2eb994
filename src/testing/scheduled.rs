//! The interfaces of `parking_lot` and `dashmap`, as far as they are used, over locks that a
//! scheduler knows. All threads of a test take turns on one, so any other lock would block them
//! all.
//!
//! At every lock, atomic and wait the scheduler may switch threads. All of them are sequentially
//! consistent: the effects of weaker orderings are not explored.

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(crate) use shuttle::thread;

use shuttle::sync;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};

/// Is never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// Empty only during a wait for a condition.
pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(Some(guard))),
            Err(TryLockError::Poisoned(guard)) => Some(MutexGuard(Some(guard.into_inner()))),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("locked")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let locked = guard.0.take().expect("locked");
        guard.0 = Some(self.0.wait(locked).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_while<T>(&self, guard: &mut MutexGuard<'_, T>, mut condition: impl FnMut(&mut T) -> bool) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A map behind one lock. It is held while an entry is created, as `DashMap` holds the lock of the
/// entry's shard.
#[derive(Debug)]
pub(crate) struct DashMap<K, V>(Mutex<BTreeMap<K, V>>);

impl<K, V> Default for DashMap<K, V> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

pub(crate) struct Entry<'a, K, V> {
    map: MutexGuard<'a, BTreeMap<K, V>>,
    key: K,
}

/// A value that `get` returns: a copy, where `DashMap` holds a lock.
pub(crate) struct Ref<V>(V);

impl<V> Deref for Ref<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0
    }
}

/// A key that `iter` returns.
pub(crate) struct Key<K>(K);

impl<K: Ord + Clone, V: Clone> DashMap<K, V> {
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Ref<V>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().get(key).cloned().map(Ref)
    }

    pub(crate) fn entry(&self, key: K) -> Entry<'_, K, V> {
        Entry { map: self.0.lock(), key }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(K, V)>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().remove_entry(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Key<K>> {
        let keys: Vec<_> = self.0.lock().keys().cloned().map(Key).collect();
        keys.into_iter()
    }
}

impl<K: Ord + Clone, V: Clone> Entry<'_, K, V> {
    pub(crate) fn or_try_insert_with<E>(mut self, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(value) = self.map.get(&self.key) {
            return Ok(value.clone());
        }
        let value = make()?;
        self.map.insert(self.key, value.clone());
        Ok(value)
    }
}

impl<K> Key<K> {
    pub(crate) fn key(&self) -> &K {
        &self.0
    }
}
