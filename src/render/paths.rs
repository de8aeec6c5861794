//! Where things are in pods, and names of files there.

/// Where the ConfigMap is mounted (`SPARK_CONF_DIR`).
pub const CONF_DIR: &str = "/etc/spark";

/// Where state lives that must outlive a container.
pub const STATE_DIR: &str = "/var/spark";

/// Where the volume with event logs is mounted, in drivers and in the history server.
pub const EVENTS_DIR: &str = "/var/spark/events";

/// The file among the ConfigMap's that drivers read.
pub const DRIVER_DEFAULTS: &str = "spark-defaults.conf";
