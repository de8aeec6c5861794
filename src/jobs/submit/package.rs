//! The archive that is sent to a driver: the user's files, the arguments and the configuration, followed by their
//! checksums. Its length is known before it is sent, and it is streamed without being kept in memory.

use std::io;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::jobs::submit::job::LocalFile;

const BLOCK: u64 = 512;
const BUFFER: usize = 64 * 1024;
/// The last entry of the archive, in the format of `sha256sum --check`.
const SUMS: &str = "SHA256SUMS";

/// An archive that can be sent repeatedly.
pub struct Package {
    entries: Vec<ArchiveEntry>,
    sums_length: u64,
}

struct ArchiveEntry {
    name: String,
    size: u64,
    content: EntryContent,
}

enum EntryContent {
    File(PathBuf),
    Text(Vec<u8>),
}

impl Package {
    /// Creates an archive of files and named texts.
    pub fn of(files: &[LocalFile], texts: Vec<(String, Vec<u8>)>) -> io::Result<Self> {
        let mut entries = Vec::new();
        for file in files {
            let found = std::fs::metadata(&file.path).map_err(|error| named(file.path.display(), error))?;
            entries.push(ArchiveEntry {
                name: file.sent_as.clone(),
                size: found.len(),
                content: EntryContent::File(file.path.clone()),
            });
        }
        entries.extend(texts.into_iter().map(|(name, text)| ArchiveEntry {
            name,
            size: text.len() as u64,
            content: EntryContent::Text(text),
        }));
        let sums_length = entries.iter().map(|entry| 64 + 2 + entry.name.len() as u64 + 1).sum();
        Ok(Self { entries, sums_length })
    }

    /// Length of the archive in bytes.
    pub fn length(&self) -> io::Result<u64> {
        let mut length = 2 * BLOCK;
        let entries = self.entries.iter().map(|entry| (entry.name.as_str(), entry.size));
        for (name, size) in entries.chain([(SUMS, self.sums_length)]) {
            length += header(name, size)?.len() as u64 + size + padding(size);
        }
        Ok(length)
    }

    /// Writes the archive; `sent` receives the number of bytes so far.
    pub async fn send(&self, to: &mut (impl AsyncWrite + Unpin), mut sent: impl FnMut(u64)) -> io::Result<()> {
        let mut sums = String::new();
        let mut so_far = 0;
        for entry in &self.entries {
            to.write_all(&header(&entry.name, entry.size)?).await?;
            let mut sha = Sha256::new();
            match &entry.content {
                EntryContent::Text(text) => {
                    sha.update(text);
                    to.write_all(text).await?;
                }
                EntryContent::File(path) => {
                    let file = File::open(path).await.map_err(|error| named(path.display(), error))?;
                    let mut file = file.take(entry.size);
                    let mut buffer = vec![0; BUFFER];
                    let mut left = entry.size;
                    while left > 0 {
                        let length = file.read(&mut buffer).await?;
                        if length == 0 {
                            let error = io::Error::other("it shrank while it was being sent");
                            return Err(named(path.display(), error));
                        }
                        sha.update(&buffer[..length]);
                        to.write_all(&buffer[..length]).await?;
                        left -= length as u64;
                        so_far += length as u64;
                        sent(so_far);
                    }
                }
            }
            pad(to, entry.size).await?;
            let hex = HEXLOWER.encode(&sha.finalize());
            sums.push_str(&format!("{hex}  {}\n", entry.name));
        }
        to.write_all(&header(SUMS, self.sums_length)?).await?;
        to.write_all(sums.as_bytes()).await?;
        pad(to, self.sums_length).await?;
        to.write_all(&[0; 2 * BLOCK as usize]).await?;
        to.flush().await
    }
}

fn named(path: impl std::fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// The tar header of a file, preceded by a long-name entry if needed.
fn header(name: &str, size: u64) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    // A file may be a program that the application executes.
    header.set_mode(0o755);
    header.set_size(size);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, io::empty())?;
    let mut bytes = archive.into_inner()?;
    // Strips the end of the archive, which follows the last entry.
    bytes.truncate(bytes.len() - 2 * BLOCK as usize);
    Ok(bytes)
}

fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

async fn pad(to: &mut (impl AsyncWrite + Unpin), size: u64) -> io::Result<()> {
    to.write_all(&[0; BLOCK as usize][..padding(size) as usize]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tar_and_sha256sum_accept_the_archive_and_its_length_is_correct() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("files/0/{}.py", "n".repeat(200));
        let path = folder.path().join("big");
        std::fs::write(&path, vec![7; 100_001]).unwrap();
        let files = [LocalFile {
            path,
            sent_as: long.clone(),
        }];
        let texts = vec![("arguments".into(), b"a b\0c\n\0".to_vec()), ("empty".into(), vec![])];
        let package = Package::of(&files, texts).unwrap();
        let mut archive = Vec::new();
        let mut reported = 0;
        package.send(&mut archive, |sent| reported = sent).await.unwrap();
        assert_eq!(reported, 100_001);
        assert_eq!(archive.len() as u64, package.length().unwrap());

        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        std::fs::write(folder.path().join("archive"), &archive).unwrap();
        let unpacked = std::process::Command::new("bash")
            .arg("-c")
            .arg("cd out && tar -xf ../archive && sha256sum --check --strict --quiet SHA256SUMS")
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(unpacked.success());
        assert_eq!(std::fs::read(out.join(long)).unwrap().len(), 100_001);
        assert_eq!(std::fs::read(out.join("arguments")).unwrap(), b"a b\0c\n\0");
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "long").unwrap();
        let files = [LocalFile {
            path: path.clone(),
            sent_as: "x".into(),
        }];
        let package = Package::of(&files, vec![]).unwrap();
        std::fs::write(&path, "l").unwrap();
        let error = package.send(&mut Vec::new(), |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("shrank while"), "{error}");
    }
}
