//! A headless Chromium that opens pages and clicks their links as a person does, driven by WebDriver: JSON over HTTP to Debian's chromedriver.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::server::Group;

/// How often a page is loaded again whose requests were dropped.
const RELOADS: u32 = 5;
/// A page with its scripts and what they fetch. A machine with two processors also runs the cluster.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to leave the browser alone before it is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// What works as root and in containers, whose /dev/shm may be small, and asks nobody on the Internet.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
];

/// The page that is there when all its scripts have done their work. Spark's fill in tables, and the links in them, after it has been loaded:
/// they begin when the document is ready, as this does after them, and ask by jQuery alone.
const LOOK: &str = r#"
const done = arguments[0];
const address = text => {
    const {href, protocol, host, pathname, searchParams} = new URL(text, document.baseURI);
    return {whole: href, scheme: protocol, authority: host, path: pathname, parameters: [...searchParams]};
};
const page = () => ({
    address: address(location.href),
    title: document.title,
    text: document.body.innerText,
    status: performance.getEntriesByType('navigation')[0].responseStatus,
    missing: performance.getEntriesByType('resource').filter(r => r.responseStatus !== 200).map(r => `${r.responseStatus} ${r.name}`),
    is_sparks: [...document.images].some(i => i.src.endsWith('/static/spark-logo.svg') && i.naturalWidth > 0),
    links: [...document.querySelectorAll('a[href], area[href], svg a')].map(a => {
        const written = a.getAttribute('href') ?? a.getAttribute('xlink:href');
        return {written, address: address(written), is_visible: a.checkVisibility(), element: a};
    }),
});
const settled = () => window.jQuery?.active ? setTimeout(settled, 20) : done(page());
const loaded = () => window.jQuery ? jQuery(settled) : settled();
document.readyState === 'complete' ? loaded() : addEventListener('load', loaded);
"#;

/// A page as the browser shows it.
#[derive(Deserialize)]
pub struct Page {
    pub address: Address,
    pub title: String,
    pub text: String,
    /// Of the answer that brought it; 0 if there was none.
    pub status: u16,
    /// Scripts, styles, pictures and data that it asked for and did not get.
    pub missing: Vec<String>,
    /// It bears Spark's logo.
    pub is_sparks: bool,
    pub links: Vec<Link>,
}

#[derive(Deserialize)]
pub struct Link {
    /// As the page has it.
    pub written: String,
    pub address: Address,
    pub is_visible: bool,
    element: Value,
}

/// An address as the browser understands it.
#[derive(Clone, Deserialize)]
pub struct Address {
    pub whole: String,
    /// With the colon.
    pub scheme: String,
    /// Host and port.
    pub authority: String,
    pub path: String,
    /// Names and values of the query.
    pub parameters: Vec<(String, String)>,
}

/// A browser without history, ended with everything that it started.
pub struct Browser {
    /// chromedriver, with Chromium's processes in its group.
    _driver: Group,
    /// Its standard output must stay open.
    _output: BufReader<ChildStdout>,
    /// Of the session.
    root: String,
    client: Client,
    runtime: Runtime,
    _profile: tempfile::TempDir,
    /// Where its pictures are kept.
    pub pictures: PathBuf,
    taken: Cell<usize>,
}

impl Browser {
    /// Starts it. The rules say where names lead (`MAP *.k8s 127.0.0.1`); pictures of a test go to `target/browser/<test>`, and those of its last
    /// run are removed.
    pub fn start(test: &str, rules: &str) -> Self {
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .with_file_name("browser")
            .join(test);
        let _ = std::fs::remove_dir_all(&pictures);
        std::fs::create_dir_all(&pictures).unwrap();
        println!("pictures are in {}", pictures.display());

        let mut driver = Group::start(Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()));
        let mut output = BufReader::new(driver.0.stdout.take().unwrap());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut browser = Self {
            root: format!("http://127.0.0.1:{}/session", port_of(&mut output)),
            _driver: driver,
            _output: output,
            client: Client::builder().no_proxy().build().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _profile: tempfile::tempdir().unwrap(),
            pictures,
            taken: Cell::new(0),
        };
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", browser._profile.path().display()));
        arguments.push(format!("--host-resolver-rules={rules}"));
        let capabilities =
            json!({"goog:chromeOptions": {"args": arguments}, "timeouts": {"script": PAGE_TIMEOUT.as_millis()}});
        let session = browser
            .post("", json!({"capabilities": {"alwaysMatch": capabilities}}))
            .unwrap();
        browser.root = format!("{}/{}", browser.root, session["sessionId"].as_str().unwrap());
        browser
    }

    /// Opens an address; an error if nobody answers there.
    pub fn open(&self, address: &str) -> Result<Page, String> {
        self.post("/url", json!({"url": address}))?;
        self.look()
    }

    /// Clicks a link of the page that is shown, and waits for the one behind it.
    pub fn click(&self, link: &Link) -> Result<Page, String> {
        let id = link.element.as_object().and_then(|element| element.values().next());
        let id = id.and_then(Value::as_str).unwrap();
        let deadline = Instant::now() + PAGE_TIMEOUT;
        loop {
            // Spark's pages scroll smoothly, and the driver does not wait until they have.
            let scroll = "window.isLeft = true; arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
            self.script(scroll, "sync", json!([link.element]))?;
            match self.post(&format!("/element/{id}/click"), json!({})) {
                Ok(_) => break,
                Err(error) if error.contains("click intercepted") && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
        // Between two documents there may be none to be asked.
        while self.script("return window.isLeft === true", "sync", json!([])) != Ok(false.into()) {
            if Instant::now() >= deadline {
                return Err("the click led nowhere".into());
            }
            std::thread::sleep(PAUSE);
        }
        self.look()
    }

    /// The page that is shown. Chromium drops the requests under way when a network interface comes or goes, as those of pods do: then the page is
    /// loaded again.
    fn look(&self) -> Result<Page, String> {
        for _ in 0..RELOADS {
            let page = self.page()?;
            if !page.missing.iter().any(|missing| missing.starts_with("0 ")) {
                return Ok(page);
            }
            self.post("/refresh", json!({}))?;
        }
        self.page()
    }

    fn page(&self) -> Result<Page, String> {
        let page = self.script(LOOK, "async", json!([]))?;
        serde_json::from_value(page).map_err(|error| error.to_string())
    }

    /// Keeps a picture of what is shown.
    pub fn screenshot(&self, name: &str) {
        let picture = self.command(Method::GET, "/screenshot", None).unwrap();
        let picture = BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
        self.taken.set(self.taken.get() + 1);
        let file = self.pictures.join(format!("{:03}-{name}.png", self.taken.get()));
        std::fs::write(file, picture).unwrap();
    }

    fn script(&self, script: &str, kind: &str, arguments: Value) -> Result<Value, String> {
        self.post(
            &format!("/execute/{kind}"),
            json!({"script": script, "args": arguments}),
        )
    }

    fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.command(Method::POST, path, Some(body))
    }

    /// A command's value, or WebDriver's message.
    fn command(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let mut request = self.client.request(method, format!("{}{path}", self.root));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = self.runtime.block_on(async { request.send().await?.bytes().await });
        let answer = answer.map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value["error"].is_string() {
            true => Err(value["message"].as_str().unwrap_or_default().to_owned()),
            false => Ok(value),
        }
    }
}

/// The port that chromedriver says it has taken.
fn port_of(output: &mut impl BufRead) -> u16 {
    let mut lines = output.lines().map_while(Result::ok);
    lines
        .find_map(|line| {
            line.split_once("successfully on port ")?
                .1
                .trim_end_matches('.')
                .parse()
                .ok()
        })
        .expect("chromedriver did not start")
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium writes to its profile until it has ended.
        let _ = self.command(Method::DELETE, "", None);
    }
}
