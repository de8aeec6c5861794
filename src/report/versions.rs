//! Formats what `sparkha version` reports.

use crate::console::hint;
use crate::lifecycle::versions::Versions;
use crate::report::{Format, structured};

pub fn versions(versions: &Versions, format: Format) -> String {
    match format {
        Format::Name => format!("{}\n", versions.sparkha),
        Format::Table => table(versions),
        _ => structured(format, versions).unwrap_or_default(),
    }
}

fn table(versions: &Versions) -> String {
    let unknown = || "unknown".to_owned();
    let commit = versions.commit.map_or_else(unknown, str::to_owned);
    let mut rows = vec![
        ("sparkha", versions.sparkha.to_owned()),
        ("Commit", commit),
        ("Supports", versions.supported.spark.clone()),
        ("", versions.supported.kubernetes.clone()),
    ];
    rows.extend(versions.kubernetes.clone().map(|version| ("Kubernetes", version)));
    if let Some(cluster) = &versions.cluster {
        rows.extend([
            ("Cluster", format!("{}/{}", cluster.namespace, cluster.name)),
            (
                "Made by",
                format!(
                    "sparkha {}, inventory format {}",
                    cluster.sparkha, cluster.inventory_format
                ),
            ),
            ("Image", cluster.image.clone()),
            ("Spark", cluster.spark.clone().unwrap_or_else(unknown)),
        ]);
        rows.extend(cluster.zookeeper.clone().map(|version| ("ZooKeeper", version)));
    }
    for skew in &versions.skew {
        rows.extend([("", format!("! {}", skew.message)), ("", format!("  {}", skew.help))]);
    }
    let lines = rows.iter().map(|(name, value)| format!("{name:10} {value}\n"));
    hint::complete(&lines.collect::<String>())
}
