//! Headings of options in help texts: one for one subject, whichever command has it.

pub const CLUSTER: &str = "Cluster";
pub const WORKERS: &str = "Workers";
pub const SERVICES: &str = "Additional services";
pub const CHANGES: &str = "Changes";
pub const SELECTION: &str = "Selection";
pub const WAITING: &str = "Waiting";
pub const OUTPUT: &str = "Output";
/// Of a job: its code, its properties, what it gets, and its driver.
pub const APPLICATION: &str = "Application";
pub const PROPERTIES: &str = "Spark properties";
pub const RESOURCES: &str = "Resources";
pub const DRIVER: &str = "Driver";
/// Of the routers, and what leads to them.
pub const HTTP: &str = "HTTP";
pub const ACCESS: &str = "Access";
pub const DNS: &str = "DNS";
pub const ROUTES: &str = "Routes";
pub const VULCAND: &str = "Vulcand";
pub const MONITORING: &str = "Monitoring";
pub const DEPLOYMENT: &str = "Deployment in the cluster";
pub const GLOBAL: &str = "Global options";
