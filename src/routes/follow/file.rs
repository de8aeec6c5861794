//! Routes from a file, for a router without access to an API server: the output of `sparkha route render --format json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::lifecycle::Error;
use crate::routes::follow::{Follow, Published, folder_watcher};
use crate::routing::{Route, Table};

/// Reads the routes, and rereads them whenever the file changes. If it cannot be read, the routes stay unchanged.
pub fn follow(path: &Path) -> Result<Follow, Error> {
    let first = Published {
        table: Arc::new(read(path)?),
        settled: true,
    };
    let (sender, published) = watch::channel(first);
    let tasks = JoinSet::from_iter([poll(path.to_owned(), sender)]);
    Ok(Follow {
        published,
        _tasks: tasks,
    })
}

fn read(path: &Path) -> Result<Table, Error> {
    let wrong = |reason: String| Error::Usage {
        message: format!("failed to read the routes in {}: {reason}", path.display()),
        help: "write it with `sparkha route render --format json`".into(),
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let routes: Vec<Route> = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(Table::from_routes(routes))
}

async fn poll(path: PathBuf, sender: watch::Sender<Published>) {
    let name = path.file_name().map(ToOwned::to_owned);
    // In a mounted ConfigMap the file is a link into a folder, and `..data`, the link to that folder, is replaced.
    let concerns = move |path: &Path| path.file_name() == name.as_deref() || path.ends_with("..data");
    let (watcher, mut changes) = folder_watcher(concerns);
    // Watch the folder, because files are replaced rather than written.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let watched = watcher.and_then(|mut watcher| {
        watcher.watch(folder.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    if let Err(error) = &watched {
        tracing::warn!("failed to watch {} for changes: {error}", path.display());
    }
    while changes.recv().await.is_some() {
        match read(&path) {
            Ok(table) => {
                sender.send_if_modified(|published| {
                    let differs = *published.table != table;
                    published.table = Arc::new(table);
                    differs
                });
            }
            Err(error) => tracing::warn!("{error}; the routes stay unchanged"),
        }
    }
}
