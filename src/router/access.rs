//! Access to the router: open, or by password or token. Passwords are bcrypt hashes as `htpasswd -B` writes them. A correct password is remembered by
//! its digest, because checking a hash takes a tenth of a second. Few passwords wait to be checked, and only for a few seconds: somebody who guesses
//! passwords delays new logins, but takes neither memory nor processors from users who are logged in.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Hashes checked at a time: guessing must not take the whole machine.
const CHECKS: usize = 1;
/// Passwords that wait to be checked, and for how long.
const WAITING: usize = 32;
const WAIT: Duration = Duration::from_secs(5);
/// Correct passwords that are remembered.
const REMEMBERED: usize = 1000;

/// A file of passwords or tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("failed to read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} line {line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        problem: &'static str,
    },
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Granted,
    Refused,
    /// Too many passwords are being checked.
    Busy,
}

impl From<bool> for Admission {
    fn from(granted: bool) -> Self {
        if granted {
            Admission::Granted
        } else {
            Admission::Refused
        }
    }
}

/// The users and tokens that are admitted.
pub struct Access {
    /// No file was given: everybody is admitted. An empty file admits nobody.
    pub open: bool,
    /// bcrypt hashes by user.
    users: HashMap<String, String>,
    tokens: HashSet<[u8; 32]>,
    right: Mutex<HashSet<[u8; 32]>>,
    checks: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Access {
    /// Reads users (`name:hash`) and tokens, one a line. Empty lines and lines that begin with `#` are ignored.
    pub fn read(users: Option<&Path>, tokens: Option<&Path>) -> Result<Self, AccessError> {
        let mut access = Self {
            open: users.is_none() && tokens.is_none(),
            users: HashMap::new(),
            tokens: HashSet::new(),
            right: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Semaphore::new(WAITING),
        };
        for_each_line(users, |line| {
            let (name, hash) = line.split_once(':').ok_or("a colon between name and hash is missing")?;
            let kinds = ["$2a$", "$2b$", "$2x$", "$2y$"];
            if !kinds.iter().any(|kind| hash.starts_with(kind)) {
                return Err("the hash is not a bcrypt hash; create one with `htpasswd -B`");
            }
            access.users.insert(name.to_owned(), hash.to_owned());
            Ok(())
        })?;
        for_each_line(tokens, |line| match line.len() {
            ..16 => Err("a token needs at least 16 characters"),
            _ => {
                access.tokens.insert(digest(line));
                Ok(())
            }
        })?;
        Ok(access)
    }

    pub async fn admits(&self, headers: &HeaderMap) -> Admission {
        if self.open {
            return Admission::Granted;
        }
        let Some((scheme, secret)) = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
        else {
            return Admission::Refused;
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            // The time to compare digests reveals nothing about the token.
            return self.tokens.contains(&digest(secret.trim())).into();
        }
        match scheme.eq_ignore_ascii_case("basic") {
            true => self.knows(secret.trim()).await,
            false => Admission::Refused,
        }
    }

    async fn knows(&self, secret: &str) -> Admission {
        let Some(credentials) = BASE64_STANDARD
            .decode(secret)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            return Admission::Refused;
        };
        let digest = digest(&credentials);
        if self.remembered().contains(&digest) {
            return Admission::Granted;
        }
        let Some((name, password)) = credentials.split_once(':') else {
            return Admission::Refused;
        };
        // An unknown name takes as long as a known one.
        let known = self.users.get(name);
        let Some(hash) = known.or_else(|| self.users.values().next()).cloned() else {
            return Admission::Refused;
        };
        let Ok(waiting) = self.waiting.try_acquire() else {
            return Admission::Busy;
        };
        let Ok(Ok(permit)) = tokio::time::timeout(WAIT, self.checks.clone().acquire_owned()).await else {
            return Admission::Busy;
        };
        drop(waiting);
        let password = password.to_owned();
        let check = tokio::task::spawn_blocking(move || {
            // A check goes on after its client has hung up.
            let _permit = permit;
            bcrypt::verify(password, &hash)
        });
        let is_right = matches!(check.await, Ok(Ok(true))) && known.is_some();
        if is_right {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert(digest);
        }
        is_right.into()
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Reads lines that are neither empty nor a comment. `read` returns what is wrong with one.
fn for_each_line(
    path: Option<&Path>,
    mut read: impl FnMut(&str) -> Result<(), &'static str>,
) -> Result<(), AccessError> {
    let Some(path) = path else { return Ok(()) };
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(AccessError::File { path, source }),
    };
    let lines = text.lines().map(str::trim).zip(1..);
    for (text, line) in lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#')) {
        if let Err(problem) = read(text) {
            return Err(AccessError::Line { path, line, problem });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn only_correct_passwords_and_tokens_are_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let (users, tokens) = (folder.path().join("users"), folder.path().join("tokens"));
        let hash = bcrypt::hash("secret:with colon", 4).unwrap();
        std::fs::write(&users, format!("# who\nann:{hash}\n")).unwrap();
        std::fs::write(&tokens, "0123456789abcdef\n").unwrap();
        let access = Access::read(Some(&users), Some(&tokens)).unwrap();
        let admits = async |value: &str| {
            let headers = [(AUTHORIZATION, HeaderValue::from_str(value).unwrap())];
            access.admits(&headers.into_iter().collect()).await == Admission::Granted
        };
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for _ in 0..2 {
            assert!(admits(&basic("ann:secret:with colon")).await);
            assert!(!admits(&basic("ann:secret")).await);
        }
        assert!(!admits(&basic("bob:secret:with colon")).await);
        assert!(!admits(&basic("ann")).await);
        assert!(admits("bearer 0123456789abcdef").await);
        assert!(!admits("Bearer 0123456789abcdeF").await);
        assert!(!admits("Basic 0123456789abcdef").await);
        assert_eq!(access.admits(&HeaderMap::new()).await, Admission::Refused);
        let open = Access::read(None, None).unwrap();
        assert_eq!(open.admits(&HeaderMap::new()).await, Admission::Granted);
        std::fs::write(&users, "# nobody\n").unwrap();
        for (users, tokens) in [(Some(&*users), None), (None, Some(&*users))] {
            let nobody = Access::read(users, tokens).unwrap();
            assert_eq!(nobody.admits(&HeaderMap::new()).await, Admission::Refused);
        }
    }

    /// ann's password is secret.
    fn access_of_ann() -> Access {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        Access::read(Some(&users), None).unwrap()
    }

    async fn asks(access: &Access, credentials: &str) -> Admission {
        let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        let headers = [(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())];
        access.admits(&headers.into_iter().collect()).await
    }

    #[test]
    fn a_check_whose_client_has_hung_up_still_counts() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let access = access_of_ann();
            // The check waits for the thread.
            let (go, waits) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || waits.recv());
            let mut hangs_up = Box::pin(asks(&access, "ann:wrong"));
            assert!(futures::poll!(&mut hangs_up).is_pending());
            drop(hangs_up);
            assert_eq!(access.checks.available_permits(), 0);
            drop(go);
            assert_eq!(asks(&access, "ann:secret").await, Admission::Granted);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn password_checks_wait_in_a_short_queue() {
        let access = access_of_ann();
        let asks = |credentials: &'static str| asks(&access, credentials);
        assert_eq!(asks("ann:secret").await, Admission::Granted);

        // While one password is checked, others wait, for known and unknown names alike. A remembered one does not.
        let busy = access.checks.acquire().await.unwrap();
        let (mut known, mut unknown) = (Box::pin(asks("ann:wrong")), Box::pin(asks("bob:wrong")));
        assert!(futures::poll!(&mut known).is_pending());
        assert!(futures::poll!(&mut unknown).is_pending());
        assert_eq!(asks("ann:secret").await, Admission::Granted);
        assert_eq!((known.await, unknown.await), (Admission::Busy, Admission::Busy));

        let mut many: Vec<_> = (0..WAITING).map(|_| Box::pin(asks("ann:wrong"))).collect();
        for one in &mut many {
            assert!(futures::poll!(one).is_pending());
        }
        assert_eq!(asks("ann:more").await, Admission::Busy);
        drop(busy);
        for one in many {
            assert_eq!(one.await, Admission::Refused);
        }
    }

    #[test]
    fn malformed_files_are_reported_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "\nann:{SHA}abc\n").unwrap();
        let error = Access::read(Some(&file), None).err().unwrap().to_string();
        assert!(error.contains("line 2: the hash is not a bcrypt hash"), "{error}");
        std::fs::write(&file, "short\n").unwrap();
        assert!(Access::read(None, Some(&file)).is_err());
        assert!(Access::read(None, Some(&folder.path().join("none"))).is_err());
    }
}
