//! The passwords that open a repository: listed, added, changed, removed (design document, section "Keys, Encryption and
//! MAC"). All open the same master key, so no data is written anew.
//!
//! How a key file looks is `key`'s business.

use super::id::Id;
use super::key::{self, ClosedKey, MAX_TRIES};
use super::state::Open;
use crate::platform::clock;
use crate::platform::secret::Secret;
use crate::repository::backend::FileKind;
use crate::repository::contract::{KeyInfo, RepositoryError};

/// All keys, in the order of their ids.
///
/// # Errors
/// They cannot be listed. What is wrong with a single one is beside it.
pub fn list(open: &Open) -> Result<Vec<KeyInfo>, RepositoryError> {
    let ids = open.list_ids(FileKind::Key)?;
    Ok(ids.into_iter().map(|id| info(open, id)).collect())
}

fn info(open: &Open, id: Id) -> KeyInfo {
    let mut info = KeyInfo {
        current: open.key_id() == Some(id),
        id: id.to_string(),
        user_name: String::new(),
        host_name: String::new(),
        created: None,
        problem: None,
    };
    match ClosedKey::read(&**open.backend(), id) {
        Ok(key) => {
            key.username().clone_into(&mut info.user_name);
            key.hostname().clone_into(&mut info.host_name);
            info.created = Some(key.created().instant);
        }
        Err(error) => info.problem = Some(error.to_string()),
    }
    info
}

/// Adds a key for this password. It is read back and opened before it counts.
///
/// # Errors
/// There is none more than before; [`RepositoryError::KeysFull`] if no program would try it any more.
pub fn add(open: &Open, password: &Secret<String>) -> Result<Id, RepositoryError> {
    plan_addition(open)?;
    write(open, password)
}

/// Whether there is room for another key.
///
/// # Errors
/// [`RepositoryError::KeysFull`] if no program would try it any more.
pub fn plan_addition(open: &Open) -> Result<(), RepositoryError> {
    if open.list_ids(FileKind::Key)?.len() >= MAX_TRIES {
        return Err(RepositoryError::KeysFull { location: open.location(), most: MAX_TRIES });
    }
    Ok(())
}

fn write(open: &Open, password: &Secret<String>) -> Result<Id, RepositoryError> {
    let (id, file) = key::create(open.key(), password, clock::now())?;
    let name = id.to_string();
    let written = open.backend().write(FileKind::Key, &name, &[&file]);
    written.map_err(|source| RepositoryError::Storage { action: "write", file: format!("key {id}"), source })?;
    let opened = ClosedKey::read(&**open.backend(), id).and_then(|key| key.open(password));
    match opened {
        Ok(Some(master)) if master == *open.key() => Ok(id),
        result => {
            // What does not open is only in the way. If it cannot be removed either, the first error says more.
            drop(open.remove(FileKind::Key, &id));
            Err(result.err().unwrap_or_else(|| RepositoryError::Corrupted { what: "a new key".into() }))
        }
    }
}

/// Puts a key for this password in the place of the one in use, which goes once the new one was read back and opened.
/// Other keys stay.
///
/// # Errors
/// The key in use still opens the repository. If it could not be removed, both do.
pub fn change(open: &Open, password: &Secret<String>) -> Result<Id, RepositoryError> {
    let new = write(open, password)?;
    if let Some(old) = open.key_id().filter(|old| *old != new) {
        open.remove(FileKind::Key, &old)?;
    }
    Ok(new)
}

/// Removes the key whose id begins so.
///
/// # Errors
/// There is none, or several, or it is the one in use: nothing was removed.
pub fn remove(open: &Open, wanted: &str) -> Result<Id, RepositoryError> {
    let id = plan_removal(open, wanted)?;
    open.remove(FileKind::Key, &id)?;
    Ok(id)
}

/// The key that [`remove`] would remove.
///
/// # Errors
/// There is none, or several, or it is the one in use.
pub fn plan_removal(open: &Open, wanted: &str) -> Result<Id, RepositoryError> {
    let lower = wanted.to_ascii_lowercase();
    let ids = open.list_ids(FileKind::Key)?;
    let matching: Vec<Id> = ids.iter().copied().filter(|id| !lower.is_empty() && id.to_string().starts_with(&lower)).collect();
    let id = match matching[..] {
        [id] => id,
        [] => return Err(RepositoryError::NoKey { wanted: wanted.into() }),
        _ => return Err(RepositoryError::AmbiguousKey { wanted: wanted.into(), candidates: matching.iter().map(Id::to_string).collect() }),
    };
    // Whoever removes the key in use may have nothing left that opens the repository.
    if open.key_id() == Some(id) || ids.len() == 1 {
        return Err(RepositoryError::KeyInUse { id: id.to_string() });
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use super::*;
    use crate::repository::backend::Backend as _;
    use crate::repository::backend::testing::MemoryBackend;
    use crate::repository::restic::state::{Closed, InitOptions};

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn repository() -> (Arc<MemoryBackend>, Open) {
        let backend = Arc::new(MemoryBackend::new());
        let open = Closed::new(Arc::clone(&backend) as _).init(&secret("first"), InitOptions::default()).unwrap();
        (backend, open)
    }

    #[test]
    fn keys_come_and_go() {
        let (backend, open) = repository();
        let reopen = |password: &str| Closed::new(Arc::clone(&backend) as _).open(&secret(password));
        let first = open.key_id().unwrap();
        let second = add(&open, &secret("second")).unwrap();
        assert_eq!(reopen("second").unwrap().key_id(), Some(second));
        let listed = list(&open).unwrap();
        assert_eq!(listed.iter().map(|key| (key.id.clone(), key.current)).filter(|(_, current)| *current).count(), 1);
        assert_eq!(listed.len(), 2);

        for wanted in [&first.to_string(), &first.to_string()[..12]] {
            assert!(matches!(remove(&open, wanted), Err(RepositoryError::KeyInUse { .. })));
        }
        assert!(matches!(remove(&open, ""), Err(RepositoryError::NoKey { .. })));
        assert!(matches!(remove(&open, "xyz"), Err(RepositoryError::NoKey { .. })));
        assert_eq!(remove(&open, &second.to_string()[..20]).unwrap(), second);
        assert!(reopen("second").is_err());

        let third = change(&open, &secret("third")).unwrap();
        assert!(matches!(reopen("first"), Err(RepositoryError::WrongPassword { .. })));
        assert_eq!(reopen("third").unwrap().key_id(), Some(third));
        assert_eq!(backend.names(FileKind::Key).len(), 1);
        // The only one stays, even for a handle that was opened with another.
        assert!(matches!(remove(&open, &third.to_string()), Err(RepositoryError::KeyInUse { .. })));
    }

    #[test]
    fn a_change_that_is_cut_off_locks_nobody_out() {
        let (backend, open) = repository();
        for calls in 0..2 {
            backend.fail_after(calls);
            assert!(change(&open, &secret("new")).is_err());
            backend.fail_after(i64::MAX);
            assert!(Closed::new(Arc::clone(&backend) as _).open(&secret("first")).is_ok(), "after {calls} calls");
        }
    }

    #[test]
    fn a_key_that_nobody_would_try_is_not_added() {
        let (backend, open) = repository();
        for number in 1..MAX_TRIES {
            backend.write(FileKind::Key, &Id::of(&number.to_le_bytes()).to_string(), &[b"{}"]).unwrap();
        }
        assert!(matches!(add(&open, &secret("one more")), Err(RepositoryError::KeysFull { most: MAX_TRIES, .. })));
        assert_eq!(backend.names(FileKind::Key).len(), MAX_TRIES);
        assert_eq!(list(&open).unwrap().iter().filter(|key| key.problem.is_some()).count(), MAX_TRIES - 1);
    }
}
