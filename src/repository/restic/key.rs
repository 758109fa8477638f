//! Key files: the master key, sealed with what scrypt makes of a password (design document, section "Keys, Encryption and MAC").
//!
//! What the master key then opens is the business of `state`.

use jiff::Timestamp;
use scrypt::Params;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::crypto::{self, CryptoError, MasterKey, OVERHEAD};
use super::file::{Base64, KeyFile, Time, offset_of, to_json};
use super::id::Id;
use crate::platform::secret::Secret;
use crate::platform::{clock, host};
use crate::repository::backend::{Backend, FileKind};
use crate::repository::contract::RepositoryError;

/// As many keys are tried with one password; each costs up to a second.
pub const MAX_TRIES: usize = 20;

const SALT: usize = 64;
/// New keys cost at least this much.
const LEAST_LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;
/// New keys should take about this long, on the machine that makes them.
const TARGET_MILLIS: u128 = 100;
/// What an untrusted key file may make us spend: 1 GiB, and eight times the work that this much takes.
const MOST_MEMORY: u64 = 1 << 30;
const MOST_WORK: u64 = 8 * MOST_MEMORY;

/// The master key as its JSON holds it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    mac: SealedMac,
    encrypt: Base64,
}

#[derive(Serialize, Deserialize)]
struct SealedMac {
    k: Base64,
    r: Base64,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        for part in [&mut self.mac.k, &mut self.mac.r, &mut self.encrypt] {
            part.0.zeroize();
        }
    }
}

/// Makes the key file for this password: its name and content.
///
/// # Errors
/// [`RepositoryError::Internal`] if there is no randomness.
pub fn create(master: &MasterKey, password: &Secret<String>, now: Timestamp) -> Result<(Id, Vec<u8>), RepositoryError> {
    let internal = |error: CryptoError| RepositoryError::Internal(error.to_string());
    let mut salt = vec![0; SALT];
    crypto::random(&mut salt).map_err(internal)?;
    let (log_n, user_key) = calibrated(password, &salt)?;

    let (k, r) = master.mac();
    let parts = Sealed { mac: SealedMac { k: Base64(k.to_vec()), r: Base64(r.to_vec()) }, encrypt: Base64(master.encryption().to_vec()) };
    let plain = Zeroizing::new(to_json(&parts).map_err(|error| RepositoryError::Internal(error.to_string()))?);
    let mut data = Vec::with_capacity(plain.len() + OVERHEAD);
    user_key.seal(&plain, &mut data).map_err(internal)?;

    let file = KeyFile {
        created: Time::in_zone(now, &clock::local_zone()),
        username: host::username(),
        hostname: host::hostname(),
        kdf: "scrypt".into(),
        n: 1 << log_n,
        r: R.into(),
        p: P.into(),
        salt: Base64(salt),
        data: Base64(data),
    };
    let json = to_json(&file).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    Ok((Id::of(&json), json))
}

/// Derives a key whose cost doubles until it takes long enough. The first try at the least cost is mostly enough or half.
fn calibrated(password: &Secret<String>, salt: &[u8]) -> Result<(u8, MasterKey), RepositoryError> {
    let mut log_n = LEAST_LOG_N;
    loop {
        let params = Params::new(log_n, R, P).map_err(|error| RepositoryError::Internal(error.to_string()))?;
        let start = clock::monotonic();
        let key = derive(password, salt, &params)?;
        let taken = start.elapsed().as_millis();
        // Half as long again is nearer to the target than twice.
        let doublings = (TARGET_MILLIS * 3 / 4 / taken.max(1)).checked_ilog2().unwrap_or(0) + u32::from(taken * 4 < TARGET_MILLIS * 3);
        let limit = (MOST_MEMORY / 4 / (128 * u64::from(R))).ilog2() as u8;
        let next = log_n.saturating_add(doublings as u8).min(limit);
        if next <= log_n {
            return Ok((log_n, key));
        }
        log_n = next;
    }
}

fn derive(password: &Secret<String>, salt: &[u8], params: &Params) -> Result<MasterKey, RepositoryError> {
    let mut bytes = Zeroizing::new([0; 64]);
    scrypt::scrypt(password.expose().as_bytes(), salt, params, &mut bytes[..])
        .map_err(|error| RepositoryError::Internal(error.to_string()))?;
    Ok(MasterKey::from_bytes(&bytes))
}

/// A key file that was read, and is still closed.
#[derive(Debug)]
pub struct ClosedKey {
    /// Its name.
    pub id: Id,
    file: KeyFile,
}

impl ClosedKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`], or [`RepositoryError::Damaged`] if it is not what its name says, or no key file.
    pub fn read(backend: &dyn Backend, id: Id) -> Result<Self, RepositoryError> {
        let name = id.to_string();
        let json = backend.read(FileKind::Key, &name).map_err(|source| RepositoryError::Storage {
            action: "read",
            file: format!("key {id}"),
            source,
        })?;
        if Id::of(&json) != id {
            return Err(damaged(&id, "content whose SHA-256 is its name"));
        }
        Self::parse(id, &json)
    }

    fn parse(id: Id, json: &[u8]) -> Result<Self, RepositoryError> {
        let file = serde_json::from_slice(json).map_err(|error| not_json(&id, json, "a key file in JSON", &error))?;
        Ok(Self { id, file })
    }

    /// When it was made.
    pub fn created(&self) -> Time {
        self.file.created
    }

    /// Who made it.
    pub fn username(&self) -> &str {
        &self.file.username
    }

    /// Where it was made.
    pub fn hostname(&self) -> &str {
        &self.file.hostname
    }

    /// Whether a password could open it at all.
    fn check(&self) -> Result<(), RepositoryError> {
        self.params()?;
        if self.file.data.0.len() < OVERHEAD { Err(damaged(&self.id, "at least 32 bytes of data")) } else { Ok(()) }
    }

    /// Opens it. None if the password is not this key's.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`] if no password could open it.
    pub fn open(&self, password: &Secret<String>) -> Result<Option<MasterKey>, RepositoryError> {
        let params = self.params()?;
        let user_key = derive(password, &self.file.salt.0, &params)?;
        let mut data = Zeroizing::new(self.file.data.0.clone());
        match user_key.open(&mut data) {
            Err(CryptoError::TooShort) => Err(damaged(&self.id, "at least 32 bytes of data")),
            Err(_) => Ok(None),
            Ok(plain) => {
                let sealed: Sealed =
                    serde_json::from_slice(plain).map_err(|error| not_json(&self.id, plain, "a master key in JSON", &error))?;
                master_key(&sealed).map(Some).ok_or_else(|| damaged(&self.id, "a master key of 64 bytes"))
            }
        }
    }

    /// What scrypt is to be called with, if it is safe to do so.
    fn params(&self) -> Result<Params, RepositoryError> {
        let KeyFile { kdf, n, r, p, .. } = &self.file;
        if kdf != "scrypt" {
            return Err(damaged(&self.id, "scrypt as its key derivation function"));
        }
        let memory = n.checked_mul(*r).and_then(|blocks| blocks.checked_mul(128));
        let work = memory.and_then(|memory| memory.checked_mul(*p));
        let affordable = memory.is_some_and(|memory| memory <= MOST_MEMORY) && work.is_some_and(|work| work <= MOST_WORK);
        let sensible = *n > 1 && n.is_power_of_two() && (1..=1 << 20).contains(r) && (1..=1 << 10).contains(p);
        let limits = "scrypt parameters that are valid and need no more than 1 GiB";
        if !affordable || !sensible {
            return Err(damaged(&self.id, limits));
        }
        Params::new(n.ilog2() as u8, *r as u32, *p as u32).map_err(|_| damaged(&self.id, limits))
    }

    /// Whether it was made by this user on this machine: a good guess for the first try.
    fn is_ours(&self) -> bool {
        self.file.hostname == host::hostname() && self.file.username == host::username()
    }
}

fn master_key(sealed: &Sealed) -> Option<MasterKey> {
    let mut bytes = Zeroizing::new([0; 64]);
    let parts = [(0..32, &sealed.encrypt), (32..48, &sealed.mac.k), (48..64, &sealed.mac.r)];
    for (range, part) in parts {
        let target = &mut bytes[range];
        if part.0.len() != target.len() {
            return None;
        }
        target.copy_from_slice(&part.0);
    }
    Some(MasterKey::from_bytes(&bytes)).filter(MasterKey::is_plausible)
}

/// Where it is wrong, but not how: that could show a part of the key.
fn not_json(id: &Id, json: &[u8], expected: &str, error: &serde_json::Error) -> RepositoryError {
    RepositoryError::Damaged { file: format!("key {id}"), offset: offset_of(json, error), expected: expected.into() }
}

fn damaged(id: &Id, expected: &str) -> RepositoryError {
    RepositoryError::Damaged { file: format!("key {id}"), offset: 0, expected: expected.into() }
}

/// Looks for the key that `password` opens: first the one whose id begins with `hint`, then those of this user and
/// machine, then the others, [`MAX_TRIES`] in all. `accept` says whether a master key is the right one, as an interrupted
/// `init` may have left another.
///
/// # Errors
/// [`RepositoryError::WrongPassword`] if no key opens, with those that could not be tried; [`RepositoryError::KeysDamaged`] if none
/// could; what is wrong with the one that opens.
pub fn search<T>(
    backend: &dyn Backend,
    password: &Secret<String>,
    hint: Option<&str>,
    mut accept: impl FnMut(&Id, MasterKey) -> Result<T, RepositoryError>,
) -> Result<T, RepositoryError> {
    let names = backend.list(FileKind::Key).map_err(|source| RepositoryError::Storage { action: "list", file: "keys".into(), source })?;
    let mut ids: Vec<Id> = names.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    ids.sort_unstable();
    let (mut keys, unreadable) = usable(backend, &ids);
    let is_hinted = |key: &ClosedKey| hint.is_some_and(|hint| !hint.is_empty() && key.id.to_string().starts_with(hint));
    keys.sort_by_key(|key| (!is_hinted(key), !key.is_ours()));
    let mut failure = None;
    for key in keys.iter().take(MAX_TRIES) {
        // What goes wrong here goes wrong with a key that the password opens.
        match key.open(password).and_then(|master| master.map(|master| accept(&key.id, master)).transpose()) {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(accepted),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| none_opens(backend.location(), keys.len(), unreadable)))
}

/// The keys that a password may open, and what is wrong with the others.
fn usable(backend: &dyn Backend, ids: &[Id]) -> (Vec<ClosedKey>, Vec<RepositoryError>) {
    let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
    for id in ids {
        match ClosedKey::read(backend, *id).and_then(|key| key.check().map(|()| key)) {
            Ok(key) => keys.push(key),
            Err(error) => unreadable.push(error),
        }
    }
    (keys, unreadable)
}

fn none_opens(location: String, usable: usize, mut unreadable: Vec<RepositoryError>) -> RepositoryError {
    if usable > MAX_TRIES {
        return RepositoryError::TooManyKeys { location, tried: MAX_TRIES };
    }
    let problems = unreadable.iter().map(RepositoryError::with_causes).collect();
    if usable > 0 {
        return RepositoryError::WrongPassword { location, unreadable: problems };
    }
    if unreadable.is_empty() {
        return RepositoryError::NoKeys { location };
    }
    // What is out of reach may be whole.
    match unreadable.iter().position(|error| matches!(error, RepositoryError::Storage { .. })) {
        Some(number) => unreadable.swap_remove(number),
        None => RepositoryError::KeysDamaged { location, problems },
    }
}

#[cfg(test)]
mod tests;
