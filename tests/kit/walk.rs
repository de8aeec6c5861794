//! A walk through all web UIs in a real browser, by clicking every link, after the leader was lost: on this machine through the router, on
//! Kubernetes through `sparkha ui`. Before that, and through the other way in, the first page of each. Pictures of all pages stay in
//! `target/browser`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backend::{Backend, ok};
use super::browser::{Address, Browser, Link, Page};
use super::server::Group;
use super::{Run, leader, until};

pub const READY: Duration = Duration::from_secs(90);
/// No walk is longer, however many links lead to how many pages.
const MOST_STEPS: usize = 120;

/// An application that does a little now and then until it is ended, and begins when each worker has an executor.
pub const JOB: &str = r#"
import time
from pyspark import SparkConf, SparkContext
walk = SparkConf().setAppName("walk").set("spark.cores.max", 2).set("spark.executor.memory", "600m")
sc = SparkContext(conf=walk.set("spark.scheduler.minRegisteredResourcesRatio", 1))
numbers = sc.parallelize(range(100), 2).cache()
while True:
    numbers.map(lambda x: (x % 10, x)).reduceByKey(lambda a, b: a + b, 2).collect()
    print("round", flush=True)
    time.sleep(5)
"#;

/// Where another site is.
const EVIL: &str = "127.0.9.3";
const EVIL_PAGE: &str = r#"<!doctype html><title>evil</title>
<form id="f" method="post" target="frame" action="http://UI/driver/kill/"><input name="id" value="driver-1"><input name="terminate" value="true"></form>
<iframe name="frame"></iframe><img src="http://UI/app/kill/?id=APPLICATION&terminate=true">
<script>
document.getElementById("f").submit();
fetch("http://UI/app/kill/", {method: "POST", mode: "no-cors", body: new URLSearchParams({id: "APPLICATION", terminate: "true"})});
</script>"#;

/// A cluster with a running application.
pub struct Place<'a> {
    pub test: &'a str,
    pub namespace: &'a str,
    /// Of the pod with the driver.
    pub driver: &'a str,
    /// Where the router listens.
    pub router: &'a str,
    /// How it reaches pods; `sparkha ui` does as it thinks best.
    pub reach: &'a str,
    pub command: &'a dyn Fn(&[&str]) -> Command,
    pub kill: &'a dyn Fn(&str),
    /// Through which every link is clicked.
    pub way_in: WayIn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WayIn {
    Router,
    Ui,
}

impl Place<'_> {
    fn json(&self, arguments: &[&str]) -> Value {
        Run::from((self.command)(arguments).output().unwrap()).exits(0).json()
    }
}

/// A way in: how the browser calls the web UIs.
struct Door<'a> {
    name: &'static str,
    /// Host and port in the browser for those of a route.
    authority: &'a dyn Fn(&str, u64) -> String,
}

pub fn walk_after_a_failover(place: &Place) {
    let rules = format!(
        "MAP *.k8s {}, MAP evil.example {EVIL}, MAP rebound.example 127.0.0.1",
        place.router
    );
    let browser = Browser::start(place.test, &rules);
    let log = |name: &str| File::create(browser.pictures.join(name)).unwrap();
    let mut router = (place.command)(&["-v", "router", "--listen", place.router, "--reach", place.reach]);
    let _router = Group::start(router.stdout(Stdio::null()).stderr(log("router.log")));
    let mut ui = (place.command)(&["-v", "ui", "--port", "0"]);
    let mut ui = Group::start(ui.stdout(Stdio::piped()).stderr(log("ui.log")));
    let mut index = String::new();
    BufReader::new(ui.0.stdout.as_mut().unwrap())
        .read_line(&mut index)
        .unwrap();
    let index = index.trim().strip_prefix("All web UIs: ").unwrap();
    let port = index.trim_end_matches('/').rsplit(':').next().unwrap();
    let by_router = Door {
        name: "router",
        authority: &|host, port| format!("{host}:{port}"),
    };
    let by_ui = Door {
        name: "ui",
        authority: &|host, _| format!("{host}.localhost:{port}"),
    };

    for door in [&by_router, &by_ui] {
        until_alive(place, door, &browser, None);
    }
    a_page_of_another_site(place, &browser, port);
    enter_everywhere(&by_ui, place, &browser, index);
    let led = leader(&place.json(&["status", "-o", "json"])).unwrap();
    (place.kill)(&led);
    let (door, other) = match place.way_in {
        WayIn::Router => (&by_router, &by_ui),
        WayIn::Ui => (&by_ui, &by_router),
    };
    until_alive(place, other, &browser, Some(&led));
    let start = until_alive(place, door, &browser, Some(&led));
    let leads = start.title.split("//").nth(1).and_then(|rest| rest.split(':').next());
    let leads = leads.unwrap().to_owned();
    let mut walk = Walk {
        uis: uis(place, door),
        pictures: door.name,
        browser: &browser,
        steps: BTreeSet::new(),
        open: BTreeMap::new(),
        hidden: BTreeSet::new(),
    };
    walk.all(start);
    walk.has_been_everywhere(&leads, place.driver);
    enter_everywhere(&by_ui, place, &browser, index);
}

/// Tries to end the application through `sparkha ui`, as any page in this browser may, and to read what there is.
fn a_page_of_another_site(place: &Place, browser: &Browser, port: &str) {
    let jobs = place.json(&["jobs", "-o", "json"]);
    let application = jobs[0]["id"].as_str().unwrap();
    let ui = format!("spark-master.{}.k8s.localhost:{port}", place.namespace);
    let page = EVIL_PAGE.replace("UI", &ui).replace("APPLICATION", application);
    let site = |port: u16, page: &str| {
        let answer = ok(page).replace("text/plain", "text/html");
        Backend::answering(&format!("{EVIL}:{port}"), move |_| answer.clone())
    };
    let _attack = site(8000, &page);
    browser.open("http://evil.example:8000/").unwrap();
    let log = || std::fs::read_to_string(browser.pictures.join("ui.log")).unwrap();
    let refused = [
        format!("POST {ui} /app/kill/ 403 "),
        format!("GET {ui} /app/kill/ 403 "),
        format!("POST {ui} /driver/kill/ 403 "),
    ];
    until(READY, "the refusals", || {
        refused.iter().all(|line| log().contains(line))
    });
    assert_eq!(place.json(&["jobs", "-o", "json"])[0]["id"], application);
    // A name of the other site's that leads to this machine.
    let page = browser.open(&format!("http://rebound.example:{port}/")).unwrap();
    assert!(
        page.text.contains("Nothing is known of rebound.example"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("spark-"), "{}", page.text);
    // What people follow.
    let _link = site(8001, &format!("<a href=\"http://{ui}/\">Spark</a>"));
    let page = browser.open("http://evil.example:8001/").unwrap();
    let page = browser.click(&page.links[0]).unwrap();
    assert!(page.text.contains("Status: ALIVE"), "{}", page.text);
}

/// Whose web UIs the browser can reach, by host and port there: the leader's, and pods'.
fn uis(place: &Place, door: &Door) -> BTreeMap<String, String> {
    let owner = |route: &Value| match route["owner"]["role"].as_str() {
        Some("leader") => "leader".to_owned(),
        _ => route["owner"]["pod"].as_str().unwrap().to_owned(),
    };
    let ui = |route: &Value| {
        let (host, port) = (route["host"].as_str().unwrap(), route["port"].as_u64().unwrap());
        ((door.authority)(host, port), owner(route))
    };
    let routes = place.json(&["route", "render", "--format", "json"]);
    routes.as_array().unwrap().iter().map(ui).collect()
}

/// The leader's page, when it leads and has the application; another's than that of the one which led before.
fn until_alive(place: &Place, door: &Door, browser: &Browser, led: Option<&str>) -> Page {
    let host = format!("spark-master.{}.k8s", place.namespace);
    let address = format!("http://{}/", (door.authority)(&host, 8080));
    let deadline = Instant::now() + READY;
    loop {
        let page = browser.open(&address);
        if let Ok(page) = &page {
            let is_another = led.is_none_or(|led| !page.title.contains(&format!("//{led}:")));
            if is_another && page.text.contains("Status: ALIVE") && page.text.contains("Running Applications (1)") {
                return browser.open(&address).unwrap();
            }
        }
        let seen = page.map_or_else(|error| error, |page| page.text);
        assert!(Instant::now() < deadline, "no leader at {address}: {seen}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Clicks each link of the list of all web UIs.
fn enter_everywhere(door: &Door, place: &Place, browser: &Browser, index: &str) {
    let deadline = Instant::now() + READY;
    // A pod may come up at this very moment.
    let linked = loop {
        let page = browser.open(index).unwrap();
        let linked = page.links.iter().map(|link| link.address.authority.clone());
        let (linked, expected) = (linked.collect::<BTreeSet<_>>(), uis(place, door).into_keys().collect());
        if linked == expected {
            break page.links.len();
        }
        assert!(Instant::now() < deadline, "{linked:#?} are listed, not {expected:#?}");
    };
    browser.screenshot(&format!("{}-index", door.name));
    for n in 0..linked {
        let link = &browser.open(index).unwrap().links[n];
        check(&browser.click(link).unwrap());
    }
}

/// It is a page of Spark's, and whole.
fn check(page: &Page) {
    let (address, text) = (&page.address.whole, &page.text);
    assert_eq!(page.status, 200, "{address}: {text}");
    assert!(page.is_sparks, "{address} is not Spark's: {text}");
    assert_eq!(page.missing, Vec::<String>::new(), "{address}");
    let is_log = page.address.path == "/logPage/";
    assert!(!is_log || text.contains(" Bytes: "), "{address} shows no log: {text}");
}

struct Walk<'a> {
    browser: &'a Browser,
    pictures: &'static str,
    uis: BTreeMap<String, String>,
    /// The pages to which clicks led, and from whose web UI if that was another's.
    steps: BTreeSet<String>,
    /// Pages, with their addresses and the steps that began there when they were seen last.
    open: BTreeMap<String, (String, Vec<String>)>,
    /// The steps of links that nobody can click, for they are not shown.
    hidden: BTreeSet<String>,
}

impl Walk<'_> {
    /// Walks on until every link of every page was clicked, once from every web UI that has it.
    fn all(&mut self, start: Page) {
        let began = Instant::now();
        let mut page = start;
        loop {
            check(&page);
            let name = self.page(&page.address);
            if !self.open.contains_key(&name) {
                self.browser
                    .screenshot(&format!("{}-{}", self.pictures, slug(&page.title)));
            }
            let links = page
                .links
                .iter()
                .filter_map(|link| Some((link, self.name(&page.address, link)?)));
            let (shown, hidden): (Vec<_>, Vec<_>) = links.partition(|(link, _)| link.is_visible);
            self.hidden.extend(hidden.into_iter().map(|(_, step)| step));
            let next = shown.iter().find(|(_, step)| !self.steps.contains(step));
            let there = next.map(|(link, step)| {
                assert!(self.steps.len() < MOST_STEPS, "{:#?}", self.steps);
                self.steps.insert(step.clone());
                self.follow(&page, link, step)
            });
            let left = shown.into_iter().map(|(_, step)| step).collect();
            self.open.insert(name, (page.address.whole.clone(), left));
            page = match there.or_else(|| self.back()) {
                Some(page) => page,
                None => break,
            };
        }
        println!(
            "{}: {} steps to {} pages in {:.1?}",
            self.pictures,
            self.steps.len(),
            self.open.len(),
            began.elapsed()
        );
    }

    /// Clicks the link; once more where a script of the page's has drawn it anew since it was looked at.
    fn follow(&self, page: &Page, link: &Link, step: &str) -> Page {
        let there = self.browser.click(link).or_else(|error| {
            if !error.contains("stale element") {
                return Err(error);
            }
            let again = self.browser.open(&page.address.whole)?;
            let is_same = |link: &&Link| self.name(&again.address, link).as_deref() == Some(step);
            self.browser.click(again.links.iter().find(is_same).ok_or(error)?)
        });
        there.unwrap_or_else(|error| panic!("{step} on {}: {error}", page.address.whole))
    }

    /// Opens a page again that has links still to be clicked.
    fn back(&self) -> Option<Page> {
        let has_more = |steps: &Vec<String>| steps.iter().any(|step| !self.steps.contains(step));
        let (address, _) = self.open.values().find(|(_, steps)| has_more(steps))?;
        Some(self.browser.open(address).unwrap())
    }

    /// What a click on the link is; `None` if it is not to be clicked.
    fn name(&self, from: &Address, link: &Link) -> Option<String> {
        let is_within_the_page = link.written.starts_with('#');
        let is_no_page = !["http:", "https:"].contains(&link.address.scheme.as_str());
        let ends_something = link.address.path.contains("/kill");
        if is_within_the_page || is_no_page || ends_something {
            return None;
        }
        let (from, to) = (self.ui(from), self.page(&link.address));
        match from == self.ui(&link.address) {
            true => Some(to),
            false => Some(format!("{from} → {to}")),
        }
    }

    /// Whose web UI it is. No link leads anywhere else.
    fn ui(&self, address: &Address) -> &str {
        let ui = self.uis.get(&address.authority);
        ui.unwrap_or_else(|| panic!("{} is none of {:#?}", address.whole, self.uis))
    }

    /// A page by what makes it another than others: not the order of its tables, nor which job, stage or executor it is about.
    fn page(&self, address: &Address) -> String {
        let name = |(name, value): &(String, String)| match name.as_str() {
            "logType" => format!("{name}={value}"),
            name if name.contains('.') => "order".to_owned(),
            name => name.to_owned(),
        };
        let parameters: BTreeSet<_> = address.parameters.iter().map(name).collect();
        let parameters: Vec<_> = parameters.into_iter().collect();
        let page = format!("{} {}?{}", self.ui(address), address.path, parameters.join("&"));
        page.trim_end_matches('?').to_owned()
    }

    fn has_been_everywhere(&self, leader: &str, driver: &str) {
        let list = self.steps.iter().map(|step| format!("{step}\n")).collect::<String>();
        std::fs::write(self.browser.pictures.join(format!("{}-steps.txt", self.pictures)), list).unwrap();
        let hidden: Vec<_> = self.hidden.difference(&self.steps).collect();
        assert!(hidden.is_empty(), "{hidden:#?}");
        let mut required = vec![
            "leader /app/?appId".to_owned(),
            format!("leader → {driver} /"),
            format!("{leader} /app/?appId"),
        ];
        for page in [
            "jobs/",
            "jobs/job/?id",
            "stages/",
            "stages/stage/?attempt&id",
            "storage/",
            "environment/",
            "executors/",
        ] {
            required.push(format!("{driver} /{page}"));
        }
        for worker in ["spark-worker-0", "spark-worker-1"] {
            required.extend([format!("leader → {worker} /"), format!("{worker} → {leader} /")]);
            for log in ["stdout", "stderr"] {
                let page = format!("{worker} /logPage/?appId&executorId&logType={log}");
                required.extend([format!("{driver} → {page}"), page]);
            }
        }
        let missing: Vec<_> = required.iter().filter(|step| !self.steps.contains(*step)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }
}

fn slug(title: &str) -> String {
    let words = title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}
