//! A real S3-compatible server with users, keys and buckets: moto, which checks signatures. In front of it, a listener that records what it
//! is sent.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::local::spark_home;
use super::server::Server;
use super::until;

/// The region that clusters of tests name: not the default one.
pub const REGION: &str = "eu-west-1";

/// What s3.sh prepares.
pub struct Prepared {
    moto: PathBuf,
    /// A Spark with hadoop-aws.
    pub spark: PathBuf,
    /// Maven's coordinates of hadoop-aws.
    pub package: String,
}

/// Prepares it, or says why it cannot be prepared.
pub fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/s3.sh");
        let mut command = Command::new(script);
        command.arg(assert_cmd::cargo::cargo_bin!("sparkha"));
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "not run, the packages cannot be reached: {errors}"
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let [moto, spark, package]: [&str; 3] = text.lines().collect::<Vec<_>>().try_into().unwrap();
        Prepared {
            moto: moto.into(),
            spark: spark.into(),
            package: package.into(),
        }
    })
}

/// Where Spark keeps the packages of jobs between runs.
pub fn packages() -> PathBuf {
    spark_home().with_file_name("ivy")
}

/// Creates a user who may do everything in S3, a bucket, and from now on has every request checked.
const SETUP: &str = r#"
import boto3, json, sys, urllib.request
endpoint, region = sys.argv[1:]
user = dict(endpoint_url=endpoint, region_name=region, aws_access_key_id="nobody", aws_secret_access_key="yet")
iam = boto3.client("iam", **user)
iam.create_user(UserName="spark")
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="spark", PolicyName="s3", PolicyDocument=json.dumps(everything))
key = iam.create_access_key(UserName="spark")["AccessKey"]
checked = urllib.request.Request(endpoint + "/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
urllib.request.urlopen(checked).read()
print(key["AccessKeyId"], key["SecretAccessKey"])
"#;

/// Runs a line with a client of the store. The keys come by standard input.
const CLIENT: &str = r#"
import boto3, sys
endpoint, region, line = sys.argv[1:]
access, secret = sys.stdin.read().split()
s3 = boto3.client("s3", endpoint_url=endpoint, region_name=region, aws_access_key_id=access, aws_secret_access_key=secret)
exec(line)
"#;

/// A running store. Ends when dropped.
pub struct Store {
    _server: Server,
    /// Where Spark connects to: every request is recorded.
    pub endpoint: String,
    own_endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    requests: Arc<Mutex<Vec<u8>>>,
}

impl Store {
    /// Starts one at an address of this machine.
    pub fn start(address: IpAddr) -> Self {
        // Two free ports. Only this test uses the address.
        let recorder = TcpListener::bind((address, 0)).unwrap();
        let free = TcpListener::bind((address, 0)).unwrap();
        let own = free.local_addr().unwrap();
        drop(free);
        let mut command = python();
        command.args([
            "-m",
            "moto.server",
            "-H",
            &own.ip().to_string(),
            "-p",
            &own.port().to_string(),
        ]);
        let server = Server::start(&mut command);
        until(Duration::from_secs(60), "the store listens", || {
            TcpStream::connect(own).is_ok()
        });
        let own_endpoint = format!("http://{own}");
        let keys = output(python().args(["-c", SETUP, &own_endpoint, REGION]), "");
        let (access_key, secret_key) = keys.trim().split_once(' ').unwrap();
        let requests = Arc::default();
        let store = Self {
            _server: server,
            endpoint: format!("http://{}", recorder.local_addr().unwrap()),
            own_endpoint,
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            requests: Arc::clone(&requests),
        };
        std::thread::spawn(move || record(&recorder, own, &requests));
        store
    }

    /// Runs a line of Python with `s3`, a client that has the keys.
    pub fn run(&self, line: &str) -> String {
        let keys = format!("{}\n{}\n", self.access_key, self.secret_key);
        output(python().args(["-c", CLIENT, &self.own_endpoint, REGION, line]), &keys)
    }

    pub fn make_bucket(&self, name: &str) {
        let line =
            format!("s3.create_bucket(Bucket='{name}', CreateBucketConfiguration={{'LocationConstraint': region}})");
        self.run(&line);
    }

    /// Everything that Spark has sent.
    pub fn requests(&self) -> String {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&requests).into_owned()
    }

    /// The cluster file's access to this store.
    pub fn section(&self) -> String {
        format!(
            "s3: {{endpoint: '{}', region: {REGION}, pathStyleAccess: true, secret: {{name: s3-keys}}}}\n",
            self.endpoint
        )
    }
}

fn python() -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", &prepared().moto);
    // Nothing of the user's own.
    for variable in ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"] {
        python.env(variable, "/nonexistent");
    }
    python
}

fn output(command: &mut Command, input: &str) -> String {
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Passes every connection on, and keeps what clients send.
fn record(listener: &TcpListener, server: SocketAddr, requests: &Arc<Mutex<Vec<u8>>>) {
    for client in listener.incoming().flatten() {
        let requests = Arc::clone(requests);
        let Ok(mut upstream) = TcpStream::connect(server) else {
            return;
        };
        let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
                requests.extend_from_slice(&buffer[..length]);
                drop(requests);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let mut client = client;
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut upstream, &mut client);
            let _ = client.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Writes a folder, reads it, and looks for the secret key wherever processes show what they were started with: at the driver and at an
/// executor.
pub const JOB: &str = r#"
import glob, os, sys
from pyspark.sql import SparkSession
def shown(_):
    path = os.environ["AWS_SHARED_CREDENTIALS_FILE"]
    assert os.stat(path).st_mode & 0o77 == 0, oct(os.stat(path).st_mode)
    secret = open(path).read().split("=")[-1].strip().encode()
    assert len(secret) == 40
    found = []
    for name in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        try:
            text = open(name, "rb").read()
        except OSError:
            continue
        found.append(secret in text)
    return "%d of %d" % (sum(found), len(found)) if any(found) or len(found) < 4 else "nowhere"
spark = SparkSession.builder.appName("lake").getOrCreate()
folder = sys.argv[1]
spark.range(1000).selectExpr("id", "id % 7 AS day").write.mode("overwrite").parquet(folder)
print("RESULT", spark.read.parquet(folder).selectExpr("sum(id)").first()[0], flush=True)
print("SECRET", shown(0), spark.sparkContext.parallelize([0], 1).map(shown).first(), flush=True)
spark.stop()
"#;
