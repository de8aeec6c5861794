//! Downloads Spark into the cache. PyPI's pyspark source distribution contains all of it. The user's pip configuration determines the index,
//! proxy and certificates. An interrupted download is resumed, and checked against the index's SHA-256.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use reqwest::header::RANGE;
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest, Sha256};

use super::store::{is_still, make_folder, try_lock};
use super::{Error, paths, software};
use crate::model::error_chain::with_sources;
use crate::platform::system::set_mode;

/// Attempts without progress. Each resumes where the one before stopped.
const TRIES: u32 = 6;
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// How long the server may send nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How often to check whether another command still holds the lock.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The lock on a version in the cache, held by one command at a time while it fetches the version, adds packages and makes archives.
pub struct FetchLock {
    path: PathBuf,
    _file: File,
}

impl Drop for FetchLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks a version. Calls `begin_wait` if another command holds the lock. `None` if this user cannot write to the cache: what is there can be used.
pub async fn lock(version: &str, begin_wait: impl FnOnce()) -> Result<Option<Arc<FetchLock>>, Error> {
    let cache = paths::cache()?;
    let locked = async {
        make_folder(&cache)?;
        lock_file(cache.join(format!(".fetching-{version}")), begin_wait).await
    };
    match locked.await {
        Ok(lock) => Ok(Some(Arc::new(lock))),
        Err(error) if error.is_denied() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn lock_file(path: PathBuf, begin_wait: impl FnOnce()) -> Result<FetchLock, Error> {
    let mut begin_wait = Some(begin_wait);
    loop {
        match try_lock(&path)? {
            Some(file) if is_still(&file, &path) => return Ok(FetchLock { path, _file: file }),
            // Its holder has just removed it.
            Some(_) => {}
            None => {
                if let Some(begin_wait) = begin_wait.take() {
                    begin_wait();
                }
                tokio::time::sleep(LOCK_POLL_INTERVAL).await;
            }
        }
    }
}

/// The progress of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchStage {
    /// Downloaded bytes, and their total.
    Downloading(u64, u64),
    Unpacking,
}

/// Fetches a version unless it is in the cache. Returns its home, and whether it was fetched. `lock` is the version's.
pub async fn fetch(
    version: &str,
    lock: Option<Arc<FetchLock>>,
    mut report: impl FnMut(FetchStage),
) -> Result<(PathBuf, bool), Error> {
    let cache = paths::cache()?;
    let home = software::fetched_home(version).ok_or(Error::NoHome)?;
    if software::version_of(&home).is_some() {
        return Ok((home, false));
    }
    let archive = cache.join(format!("pyspark-{version}.tar.gz"));
    if !archive.exists() {
        let pip = Pip::configured()?;
        pip.check()?;
        let client = pip.client()?;
        let source = find(&client, &pip, version).await?;
        download(&client, &source, &archive, &mut report).await?;
    }
    report(FetchStage::Unpacking);
    let (from, to) = (archive.clone(), home.clone());
    // After an interruption, the unpacking goes on to its end. No other fetch may begin before.
    let unpacking = tokio::task::spawn_blocking(move || {
        let _held = lock;
        unpack(&from, &to)
    });
    let unpacked = unpacking.await.map_err(|error| fetch_error(error.to_string()))?;
    if unpacked.as_ref().is_err_and(|error| !error.is_full()) {
        // The archive may be damaged: the next fetch must download it again.
        let _ = fs::remove_file(&archive);
    }
    unpacked?;
    fs::remove_file(&archive).map_err(Error::file("remove", &archive))?;
    Ok((home, true))
}

fn fetch_error(reason: String) -> Error {
    Error::Fetch {
        reason,
        help: "run the same command again: it continues where it stopped".into(),
    }
}

fn network_error(error: reqwest::Error) -> Error {
    fetch_error(with_sources(&error))
}

/// pip's configuration.
struct Pip {
    index: Url,
    /// A file with additional certificates.
    certificates: Option<PathBuf>,
    proxy: Option<String>,
    trusted_hosts: Vec<String>,
}

impl Pip {
    /// Reads the configuration of this machine's pip.
    fn configured() -> Result<Self, Error> {
        let failed = |reason: String| Error::Fetch {
            reason,
            help: "install pip (Debian: apt-get install python3-pip), or pass --spark-home".into(),
        };
        let python = |arguments: &[&str]| {
            let output = Command::new("python3").args(arguments).output();
            let output = output.map_err(|error| failed(format!("failed to run python3: {error}")))?;
            if !output.status.success() {
                let errors = String::from_utf8_lossy(&output.stderr);
                return Err(failed(format!("failed to query pip: {}", errors.trim())));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let settings = python(&["-m", "pip", "--disable-pip-version-check", "config", "list"])?;
        let setting = |name: &str| setting(&settings, name);
        let index = match setting("index-url") {
            Some(index) => index,
            // pip's own default, so that sparkha need not repeat it.
            None => python(&[
                "-c",
                "from pip._internal.models.index import PyPI; print(PyPI.simple_url)",
            ])?,
        };
        let index = format!("{}/", index.trim().trim_end_matches('/'));
        let url = Url::parse(&index);
        let trusted = setting("trusted-host").unwrap_or_default();
        Ok(Self {
            index: url.map_err(|error| failed(format!("pip's index-url {index} is not a URL: {error}")))?,
            certificates: setting("cert").map(PathBuf::from),
            proxy: setting("proxy"),
            trusted_hosts: trusted.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// Rejects an index that pip would reject. The index supplies the checksum, and without encryption anyone on the network can change it.
    fn check(&self) -> Result<(), Error> {
        match self.index.scheme() == "https" || is_loopback(&self.index) || self.is_trusted() {
            true => Ok(()),
            false => Err(Error::Fetch {
                reason: format!(
                    "pip's index-url {} is not encrypted, and its host is not trusted",
                    self.index
                ),
                help: "use an https:// index, or add the host to pip's trusted-host".into(),
            }),
        }
    }

    /// Whether pip trusts the index's host (`host` or `host:port`) without a valid certificate.
    fn is_trusted(&self) -> bool {
        let host = self.index.host_str().unwrap_or_default();
        let port = self.index.port_or_known_default().unwrap_or_default();
        let with_port = format!("{host}:{port}");
        let mut trusted = self.trusted_hosts.iter();
        trusted.any(|trusted| [host, &with_port].contains(&trusted.as_str()))
    }

    fn client(&self) -> Result<Client, Error> {
        let failed = |reason: String| Error::Fetch {
            reason,
            help: "check pip's configuration: `pip config list`".into(),
        };
        // Only the first call in a process counts, and all calls install the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("sparkha/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(READ_TIMEOUT);
        if let Some(path) = &self.certificates {
            let pem = fs::read(path).map_err(Error::file("read", path))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem);
            builder = builder.tls_certs_merge(certificates.map_err(|error| failed(error.to_string()))?);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|error| failed(error.to_string()))?);
        }
        if self.is_trusted() {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if !is_loopback(&self.index) {
            // This applies to the index's links too.
            builder = builder.https_only(true);
        }
        builder.build().map_err(|error| failed(with_sources(&error)))
    }
}

/// Whether a URL is on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// A setting in the output of `pip config list`, whose lines are like `global.index-url='https://…'`. The environment takes precedence.
fn setting(list: &str, name: &str) -> Option<String> {
    let of = |section: &str| {
        let line = list.lines().find_map(|line| {
            line.strip_prefix(section)?
                .strip_prefix('.')?
                .strip_prefix(name)?
                .strip_prefix('=')
        })?;
        let value = line.trim().trim_matches(['\'', '"']).replace("\\n", " ");
        Some(value.trim().to_owned())
    };
    [":env:", "download", "install", "global"]
        .into_iter()
        .find_map(of)
        .filter(|value| !value.is_empty())
}

/// A file in the index.
#[derive(Debug, PartialEq, Eq)]
struct Distribution {
    url: Url,
    sha256: String,
}

async fn find(client: &Client, pip: &Pip, version: &str) -> Result<Distribution, Error> {
    let page = pip.index.join("pyspark/");
    let page = page.map_err(|error| fetch_error(error.to_string()))?;
    let sent = client.get(page.clone()).header("accept", "text/html").send().await;
    let response = sent
        .and_then(reqwest::Response::error_for_status)
        .map_err(network_error)?;
    // Links are relative to the final URL after redirects.
    let base = response.url().clone();
    let html = response.text().await.map_err(network_error)?;
    find_in_page(&html, &base, version).ok_or_else(|| Error::Fetch {
        reason: format!(
            "{} has no pyspark-{version}.tar.gz with a SHA-256",
            page.host_str().unwrap_or("the index")
        ),
        help: "choose another version: `pip index versions pyspark` lists them".into(),
    })
}

/// The link to a source distribution in a page of the simple repository API (PEP 503).
fn find_in_page(html: &str, base: &Url, version: &str) -> Option<Distribution> {
    let file = format!("pyspark-{version}.tar.gz");
    html.split("href=").skip(1).find_map(|link| {
        let quote = link.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let url = base.join(&link[1..].split(quote).next()?.replace("&amp;", "&")).ok()?;
        let sha256 = url.fragment()?.strip_prefix("sha256=")?.to_lowercase();
        let matches = url.path_segments()?.next_back() == Some(&file) && sha256.len() == 64;
        matches.then_some(Distribution { url, sha256 })
    })
}

async fn download(
    client: &Client,
    source: &Distribution,
    archive: &Path,
    report: &mut impl FnMut(FetchStage),
) -> Result<(), Error> {
    let part = archive.with_extension("gz.part");
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(&part)
        .map_err(Error::file("write", &part))?;
    let mut sha = Sha256::new();
    let mut downloaded = std::io::copy(&mut file, &mut HashWriter(&mut sha)).map_err(Error::file("read", &part))?;
    let mut tries = 0;
    loop {
        let before = downloaded;
        let resumed = resume(client, source, &mut file, &mut sha, &mut downloaded, &part, report).await;
        match resumed {
            Ok(()) => break,
            // File errors, such as a full disk, are not transient.
            Err(error @ Error::File { .. }) => return Err(error),
            Err(error) => {
                tries = if downloaded > before { 1 } else { tries + 1 };
                if tries >= TRIES {
                    return Err(error);
                }
                tracing::info!("{error}; resuming at byte {downloaded}");
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
    let found = HEXLOWER.encode(&sha.finalize());
    if found != source.sha256 {
        fs::remove_file(&part).map_err(Error::file("remove", &part))?;
        return Err(fetch_error(format!(
            "the download's SHA-256 is {found}, but the index has {}; the file was deleted",
            source.sha256
        )));
    }
    fs::rename(&part, archive).map_err(Error::file("write", archive))
}

async fn resume(
    client: &Client,
    source: &Distribution,
    file: &mut File,
    sha: &mut Sha256,
    downloaded: &mut u64,
    part: &Path,
    report: &mut impl FnMut(FetchStage),
) -> Result<(), Error> {
    let mut request = client.get(source.url.clone());
    if *downloaded > 0 {
        request = request.header(RANGE, format!("bytes={downloaded}-"));
    }
    let mut response = request.send().await.map_err(network_error)?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {}
        // The file is already complete. The checksum verifies it.
        StatusCode::RANGE_NOT_SATISFIABLE if *downloaded > 0 => return Ok(()),
        StatusCode::OK => {
            // The server sends the whole file again.
            file.set_len(0).map_err(Error::file("write", part))?;
            *sha = Sha256::new();
            *downloaded = 0;
        }
        _ => {
            response.error_for_status().map_err(network_error)?;
            return Err(fetch_error("unexpected response".into()));
        }
    }
    let total = response.content_length().map_or(0, |rest| rest + *downloaded);
    report(FetchStage::Downloading(*downloaded, total));
    while let Some(chunk) = response.chunk().await.map_err(network_error)? {
        file.write_all(&chunk).map_err(Error::file("write", part))?;
        sha.update(&chunk);
        *downloaded += chunk.len() as u64;
        report(FetchStage::Downloading(*downloaded, total));
    }
    match total == 0 || *downloaded == total {
        true => Ok(()),
        false => Err(fetch_error(format!(
            "the connection was closed at byte {downloaded} of {total}"
        ))),
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Unpacks the distribution in the layout of the official image: Spark in the home, the Python parts below `python`.
fn unpack(archive: &Path, home: &Path) -> Result<(), Error> {
    // The scratch folder's name does not match a Spark home. The remains of an interrupted fetch are removed first.
    let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scratch = home.with_file_name(format!(".unpacking-{name}"));
    let _ = fs::remove_dir_all(&scratch);
    let file = File::open(archive).map_err(Error::file("read", archive))?;
    let unpacked = unpack_into(file, &scratch).map_err(Error::file("unpack into", &scratch));
    let renamed = unpacked.and_then(|()| {
        // An incomplete home would prevent the rename.
        let _ = fs::remove_dir_all(home);
        fs::rename(&scratch, home).map_err(Error::file("write", home))
    });
    if let Err(error) = renamed {
        let _ = fs::remove_dir_all(&scratch);
        return Err(error);
    }
    Ok(())
}

fn unpack_into(file: impl Read, scratch: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        // `pyspark-VERSION/deps/bin/…`
        let mut parts = path.components();
        parts.next();
        let below = match parts.next().and_then(|part| part.as_os_str().to_str()) {
            Some("deps") => parts.as_path().to_owned(),
            Some(part @ ("pyspark" | "lib")) => Path::new("python").join(part).join(parts.as_path()),
            _ => continue,
        };
        let to = scratch.join(below);
        // No entry may be written outside the scratch folder.
        if to.components().any(|part| part == std::path::Component::ParentDir) || !entry.header().entry_type().is_file()
        {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        entry.unpack(&to)?;
        if to.parent() == Some(&scratch.join("bin")) {
            set_mode(&to, 0o755)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_version_is_fetched_by_one_command_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".fetching-4.3.0");
        let first = lock_file(path.clone(), || panic!("nobody else fetches")).await.unwrap();
        let waits = Cell::new(0);
        let second = async {
            let lock = lock_file(path.clone(), || waits.set(waits.get() + 1)).await.unwrap();
            assert_eq!(waits.get(), 1);
            assert!(path.exists());
            drop(lock);
        };
        let end_first = async {
            tokio::time::sleep(LOCK_POLL_INTERVAL * 4).await;
            assert_eq!(waits.get(), 1);
            drop(first);
        };
        futures::join!(second, end_first);
        assert!(!path.exists());
    }

    #[test]
    fn an_incomplete_home_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, home) = (folder.path().join("a.tar.gz"), folder.path().join("spark-9"));
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
            File::create(&archive).unwrap(),
            Default::default(),
        ));
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, "pyspark-9/deps/jars/new.jar", &b"new"[..])
            .unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        fs::create_dir_all(home.join("jars")).unwrap();
        fs::write(home.join("jars/old.jar"), "old").unwrap();
        unpack(&archive, &home).unwrap();
        let jars: Vec<_> = fs::read_dir(home.join("jars")).unwrap().flatten().collect();
        assert_eq!(jars.len(), 1, "{jars:?}");
        assert_eq!(jars[0].file_name(), "new.jar");
    }

    #[test]
    fn reads_pips_settings() {
        let list = ":env:.cert='/c.pem'\nglobal.cert='/other.pem'\nglobal.index-url='https://index.example/simple'\n\
                    global.trusted-host='\\na.example\\nb.example'\n";
        assert_eq!(setting(list, "cert"), Some("/c.pem".into()));
        assert_eq!(setting(list, "index-url"), Some("https://index.example/simple".into()));
        assert_eq!(setting(list, "trusted-host"), Some("a.example b.example".into()));
        assert_eq!(setting(list, "proxy"), None);
    }

    #[test]
    fn rejects_an_index_that_pip_would_reject() {
        let is_used = |index: &str, trusted: &str| {
            let pip = Pip {
                index: Url::parse(index).unwrap(),
                certificates: None,
                proxy: None,
                trusted_hosts: trusted.split_whitespace().map(str::to_owned).collect(),
            };
            pip.check().is_ok()
        };
        for index in [
            "https://i/simple/",
            "http://localhost:1/",
            "http://127.8.0.1/",
            "http://[::1]:1/",
        ] {
            assert!(is_used(index, ""), "{index}");
        }
        for (index, trusted) in [("http://i/", "a i"), ("http://i:81/", "i"), ("http://i:81/", "i:81")] {
            assert!(!is_used(index, "a"), "{index}");
            assert!(is_used(index, trusted), "{index} {trusted}");
        }
        assert!(!is_used("http://i:82/", "i:81 localhost"));
    }

    #[test]
    fn finds_the_source_distribution_in_the_index_page() {
        let sha = "ab".repeat(32);
        let base = Url::parse("https://index.example/simple/pyspark/").unwrap();
        let page = format!(
            "<a href=\"../../p/pyspark-4.3.0.tar.gz#sha256={sha}\">x</a> \
             <a href='https://files.example/pyspark-4.2.0.tar.gz#sha256={sha}'>y</a> <a href=\"pyspark-4.1.0.tar.gz\">z</a>"
        );
        let found = |version| find_in_page(&page, &base, version).map(|source| source.url.to_string());
        assert_eq!(
            found("4.3.0"),
            Some(format!("https://index.example/p/pyspark-4.3.0.tar.gz#sha256={sha}"))
        );
        assert_eq!(
            found("4.2.0"),
            Some(format!("https://files.example/pyspark-4.2.0.tar.gz#sha256={sha}"))
        );
        assert_eq!(found("4.1.0"), None, "it has no checksum");
        assert_eq!(found("4.3"), None);
    }
}
