//! Paths and file names in pods.

/// Mount path of the ConfigMap (`SPARK_CONF_DIR`).
pub const CONF_DIR: &str = "/etc/spark";

/// Folder for state that must survive a container.
pub const STATE_DIR: &str = "/var/spark";

/// Mount path of the event logs' volume, in drivers and in the history server.
pub const EVENTS_DIR: &str = "/var/spark/events";

/// File of the ConfigMap that drivers read.
pub const DRIVER_DEFAULTS: &str = "spark-defaults.conf";
