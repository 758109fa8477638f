//! Tests of key files: restic's, dangerous ones, and the right one among many.
//!
//! Opening a whole repository is tested with `state`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use super::*;
use crate::repository::backend::local::LocalBackend;
use crate::repository::backend::testing::MemoryBackend;
use crate::repository::restic::state::testing::{cases, corpus, documents};

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

/// Made by restic 0.14 with the password `geheim`.
const OF_RESTIC: &str = r#"{"created":"2026-11-20T04:20:07.311707991Z","username":"root","hostname":"vm","kdf":"scrypt","N":32768,"r":8,"p":7,"salt":"vDYknG30GDPb1nWjQKM15zpoQWAw0xScysakrcHAXDopkK7odCSLNW9/CcwOAz3gQLaAbhPnQ0PSq5lyDrEOgg==","data":"S/oiDSq31QS5596hQbsD8VJISfMs8xmdYJ5BYOGrnMuD/pYrZTe9nE0BmjcgCpLe3DQLmz7cHFtDJ1ZGhuke35NAATXN4Chduv4l4mp8QyK38mhmywfZiEkxMdG4eYqTY6i9VQlsAxd+DkLa2UJbR00Fn/GrUdNyvez0z6zuiPzsenyqQlYhOCoKLmgF3h7dj7TcRcNA12muMW/rv7w70w=="}"#;

#[test]
fn a_key_opens_with_its_password_only() {
    let master = MasterKey::generate().unwrap();
    let (id, json) = create(&master, &secret("open sesame"), clock::now()).unwrap();
    assert_eq!(id, Id::of(&json));
    let key = ClosedKey::parse(id, &json).unwrap();
    assert!(key.file.n >= 1 << LEAST_LOG_N && key.file.r == 8 && key.file.p == 1);
    assert!(key.is_ours());
    assert!(key.open(&secret("open sesame")).unwrap().is_some_and(|found| found == master));
    assert!(key.open(&secret("open sesame ")).unwrap().is_none());
    assert!(key.open(&secret("")).unwrap().is_none());
}

#[test]
fn a_key_of_restic_opens() {
    let key = ClosedKey::parse(Id([0; 32]), OF_RESTIC.as_bytes()).unwrap();
    let master = key.open(&secret("geheim")).unwrap().unwrap();
    assert_eq!(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, master.mac().0), "pCCNhuuLpmVcL8vMZTheJw==");
    assert!(key.open(&secret("Geheim")).unwrap().is_none());
}

#[test]
fn dangerous_parameters_are_refused_before_memory_is_taken() {
    let file: KeyFile = serde_json::from_str(OF_RESTIC).unwrap();
    let refused = |n: u64, r: u64, p: u64| {
        let key = ClosedKey { id: Id([1; 32]), file: KeyFile { n, r, p, ..file.clone() } };
        matches!(key.open(&secret("geheim")), Err(RepositoryError::Damaged { .. }))
    };
    for (n, r, p) in [
        (0, 8, 1),
        (1, 8, 1),
        (3, 8, 1),
        (1 << 24, 8, 1),
        (1 << 63, 8, 1),
        (1 << 15, 0, 1),
        (1 << 15, 1 << 40, 1),
        (2, 1 << 21, 1),
        (1 << 15, 8, 0),
        (1 << 15, 8, 1 << 20),
        (2, 1, u64::MAX),
        (u64::MAX, u64::MAX, u64::MAX),
    ] {
        assert!(refused(n, r, p), "{n} {r} {p}");
    }
    let key = ClosedKey { id: Id([1; 32]), file: KeyFile { kdf: "pbkdf2".into(), ..file.clone() } };
    assert!(key.open(&secret("geheim")).is_err());
    let key = ClosedKey { id: Id([1; 32]), file: KeyFile { data: Base64(vec![0; 31]), ..file } };
    assert!(key.open(&secret("geheim")).is_err());
}

#[test]
fn incomplete_master_keys_are_refused() {
    let part = |length: usize, fill: u8| Base64(vec![fill; length]);
    let sealed = |e: Base64, k: Base64, r: Base64| Sealed { mac: SealedMac { k, r }, encrypt: e };
    assert!(master_key(&sealed(part(32, 1), part(16, 1), part(16, 1))).is_some());
    assert!(master_key(&sealed(part(32, 0), part(16, 1), part(16, 1))).is_none());
    assert!(master_key(&sealed(part(32, 1), part(16, 0), part(16, 1))).is_none());
    assert!(master_key(&sealed(part(32, 1), part(15, 1), part(16, 1))).is_none());
    assert!(master_key(&sealed(part(33, 1), part(16, 1), part(16, 1))).is_none());
}

/// A key file that costs next to nothing.
fn cheap(master: &MasterKey, password: &str, hostname: &str) -> (Id, Vec<u8>) {
    let salt = vec![1; SALT];
    let user_key = derive(&secret(password), &salt, &Params::new(1, 1, 1).unwrap()).unwrap();
    let (k, r) = master.mac();
    let parts = Sealed { mac: SealedMac { k: Base64(k.to_vec()), r: Base64(r.to_vec()) }, encrypt: Base64(master.encryption().to_vec()) };
    let mut data = Vec::new();
    user_key.seal(&to_json(&parts).unwrap(), &mut data).unwrap();
    let file = KeyFile {
        created: Time::utc(Timestamp::UNIX_EPOCH),
        username: host::username(),
        hostname: hostname.to_owned(),
        kdf: "scrypt".into(),
        n: 2,
        r: 1,
        p: 1,
        salt: Base64(salt),
        data: Base64(data),
    };
    let json = to_json(&file).unwrap();
    (Id::of(&json), json)
}

#[test]
fn the_right_one_of_many_keys_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Arc::new(LocalBackend::new(folder.path()));
    backend.create().unwrap();
    let find = |password: &str, hint: Option<&str>| search(&*backend, &secret(password), hint, |_, master| Ok(master));
    assert!(matches!(find("a", None), Err(RepositoryError::NoKeys { .. })), "no key at all");

    let add = |password: &str, hostname: &str| {
        let master = MasterKey::generate().unwrap();
        let (id, json) = cheap(&master, password, hostname);
        backend.write(FileKind::Key, &id.to_string(), &[&json]).unwrap();
        (id, master)
    };
    let (_, first) = add("first", "elsewhere");
    let (second_id, second) = add("second", "elsewhere");
    assert!(find("first", None).unwrap() == first);
    assert!(find("second", None).unwrap() == second);
    assert!(find("second", Some("no such id")).unwrap() == second);
    assert!(matches!(find("third", None), Err(RepositoryError::WrongPassword { .. })));

    for number in 0..MAX_TRIES + 10 {
        add(&format!("other {number}"), "elsewhere");
    }
    assert!(find("second", Some(&second_id.short())).unwrap() == second, "the hint is tried first");
    let (_, ours) = add("ours", &host::hostname());
    assert!(find("ours", None).unwrap() == ours, "our own is tried before the others");
    assert!(matches!(find("none", None), Err(RepositoryError::TooManyKeys { .. })));
}

#[test]
fn a_damaged_key_is_told_only_if_no_other_opens() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path());
    backend.create().unwrap();
    let search = |password: &str| search(&backend, &secret(password), None, |_, master| Ok(master));
    let master = MasterKey::generate().unwrap();
    let (bad, mut json) = cheap(&master, "bad", "here");
    json[20] ^= 1;
    backend.write(FileKind::Key, &bad.to_string(), &[&json]).unwrap();
    let named = |problems: &[String]| matches!(problems, [one] if one.starts_with(&format!("key {bad} is damaged")));
    let told = search("bad").err().unwrap();
    assert!(matches!(&told, RepositoryError::KeysDamaged { problems, .. } if named(problems)), "{told}");

    let (id, json) = cheap(&master, "good", "here");
    backend.write(FileKind::Key, &id.to_string(), &[&json]).unwrap();
    assert!(search("good").is_ok());
    let told = search("bad").err().unwrap();
    assert!(matches!(&told, RepositoryError::WrongPassword { unreadable, .. } if named(unreadable)), "{told}");
}

#[test]
fn what_is_wrong_beyond_the_password_is_told() {
    let backend = MemoryBackend::new();
    let master = MasterKey::generate().unwrap();
    for password in ["one", "two"] {
        let (id, json) = cheap(&master, password, "here");
        backend.write(FileKind::Key, &id.to_string(), &[&json]).unwrap();
    }
    let refused = || RepositoryError::UnknownVersion { location: "here".into(), version: 3 };
    let told = search(&backend, &secret("one"), None, |_, _| Err::<(), _>(refused())).err().unwrap();
    assert!(matches!(told, RepositoryError::UnknownVersion { .. }), "{told}");
}

/// Whatever a key file says, it is refused, or its cost can be paid.
fn parsed(json: &[u8]) {
    let Ok(key) = ClosedKey::parse(Id::of(json), json) else { return };
    if let Ok(params) = key.params() {
        let memory = (128 * u64::from(params.r())) << params.log_n();
        assert!(memory <= MOST_MEMORY && memory * u64::from(params.p()) <= MOST_WORK, "{:?}", key.file);
    }
}

proptest::proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn any_key_file_is_read_or_refused(json in documents("key")) {
        parsed(&json);
    }
}

#[test]
fn the_corpus_of_keys_is_read() {
    let read = corpus("key");
    for json in &read {
        parsed(json);
    }
    let usable = |json: &Vec<u8>| ClosedKey::parse(Id::of(json), json).is_ok_and(|key| key.params().is_ok());
    assert_eq!(read.iter().filter(|json| usable(json)).count(), 1, "only the real one");
}

#[test]
fn where_a_key_file_is_no_json_is_told() {
    for length in [1, 40, OF_RESTIC.len() - 1] {
        let parsed = ClosedKey::parse(Id([2; 32]), &OF_RESTIC.as_bytes()[..length]);
        assert!(
            matches!(&parsed, Err(RepositoryError::Damaged { file, offset, .. }) if file.starts_with("key 02") && *offset + 1 == length as u64),
            "{length}"
        );
    }
}
