//! What a command writes while it runs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A run that goes on, and the lines that it has written. Ended with it.
pub struct Following {
    child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Following {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits until so many lines have all of these words.
    #[track_caller]
    pub fn until(&mut self, within: Duration, times: usize, words: &[&str]) {
        let deadline = Instant::now() + within;
        while self.count(words) < times {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("{words:?}: {error}\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for the end; the exit code. Lines that came meanwhile are among those seen.
    #[track_caller]
    pub fn ended(&mut self, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().code(),
                Err(RecvTimeoutError::Timeout) => panic!("it goes on\n{}", self.seen.join("\n")),
            }
        }
    }

    /// How many lines have all of these words.
    pub fn count(&self, words: &[&str]) -> usize {
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        self.seen.iter().filter(has_all).count()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes numbered lines, and needs no executors.
pub const COUNTING: &str = r#"
import sys, time
for number in range(int(sys.argv[1])):
    print("line", number, flush=True)
    time.sleep(0.2)
sys.exit(7)
"#;
