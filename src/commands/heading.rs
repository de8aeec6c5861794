//! Headings of options in help texts, shared by all commands.

pub const CLUSTER: &str = "Cluster";
pub const WORKERS: &str = "Workers";
pub const SERVICES: &str = "Additional services";
pub const CHANGES: &str = "Changes";
pub const SELECTION: &str = "Selection";
pub const WAITING: &str = "Waiting";
pub const OUTPUT: &str = "Output";
/// Options of a job: its code, properties, resources and driver.
pub const APPLICATION: &str = "Application";
pub const PROPERTIES: &str = "Spark properties";
pub const RESOURCES: &str = "Resources";
pub const DRIVER: &str = "Driver";
/// Options of routers and DNS.
pub const HTTP: &str = "HTTP";
pub const ACCESS: &str = "Access";
pub const DNS: &str = "DNS";
pub const ROUTES: &str = "Routes";
pub const VULCAND: &str = "Vulcand";
pub const MONITORING: &str = "Monitoring";
pub const DEPLOYMENT: &str = "Deployment in the cluster";
pub const GLOBAL: &str = "Global options";
