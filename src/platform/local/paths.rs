//! sparkha's folders, by the XDG base directory specification.

use std::path::PathBuf;

use super::Error;

/// The folder of clusters, their logs and data.
pub fn state() -> Result<PathBuf, Error> {
    base("XDG_STATE_HOME", ".local/state")
}

/// The folder of files that can be fetched again.
pub fn cache() -> Result<PathBuf, Error> {
    base("XDG_CACHE_HOME", ".cache")
}

/// The folder of the user's Secrets and ConfigMaps.
pub fn config() -> Result<PathBuf, Error> {
    base("XDG_CONFIG_HOME", ".config")
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf, Error> {
    // The specification requires that relative paths are ignored.
    let named = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = match named {
        Some(path) => path,
        None => std::env::home_dir()
            .filter(|home| home.is_absolute())
            .ok_or(Error::NoHome)?
            .join(below_home),
    };
    Ok(base.join("sparkha"))
}
