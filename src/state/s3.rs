//! Why Spark cannot use an S3-compatible store, from its log: S3A's exceptions bury the cause in a stack trace.

/// What is wrong with the access to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum S3Failure {
    /// Spark lacks hadoop-aws or what it needs.
    Jars,
    /// The store refuses the keys, or there are none.
    Keys,
    /// The bucket does not exist.
    Bucket,
    /// The folder of the event logs does not exist.
    Folder,
    /// The store does not respond.
    Unreachable,
}

/// What S3A and the history server of Spark 4.3 log (measured), the most specific first: an exception may name the others as its cause.
const SIGNS: [(&str, S3Failure); 9] = [
    ("org.apache.hadoop.fs.s3a.S3AFileSystem not found", S3Failure::Jars),
    ("NoClassDefFoundError: software/amazon/awssdk/", S3Failure::Jars),
    ("NoAuthWithAWSException", S3Failure::Keys),
    ("NoSuchBucketException", S3Failure::Bucket),
    ("UnknownStoreException", S3Failure::Bucket),
    ("(Service: S3, Status Code: 403", S3Failure::Keys),
    ("Log directory specified does not exist: s3a://", S3Failure::Folder),
    ("log directories exist: s3a://", S3Failure::Folder),
    (
        "SdkClientException: Unable to execute HTTP request",
        S3Failure::Unreachable,
    ),
];

/// Lines of a log that may have the cause: a Java stack trace with its causes.
pub const LOG_LINES: usize = 200;
/// Characters that are shown of a line.
const LENGTH_MAX: usize = 300;

impl S3Failure {
    pub const fn what(self) -> &'static str {
        match self {
            S3Failure::Jars => "Spark has no hadoop-aws, which s3a:// requires",
            S3Failure::Keys => "the S3-compatible store refuses access",
            S3Failure::Bucket => "the bucket does not exist",
            S3Failure::Folder => "the folder of the event logs does not exist",
            S3Failure::Unreachable => "the S3-compatible store does not respond",
        }
    }

    pub const fn help(self) -> &'static str {
        match self {
            S3Failure::Jars => {
                "use an image with hadoop-aws of its own Hadoop's version: examples/spark-s3.Containerfile makes one"
            }
            S3Failure::Keys => {
                "check the keys in the Secret of s3.secret and what they permit in this bucket; pods read them when they start"
            }
            S3Failure::Bucket => {
                "create the bucket, or correct its name; a store other than AWS usually requires s3.pathStyleAccess: true"
            }
            S3Failure::Folder => {
                "create an empty object whose name is the folder's path with a slash at its end, like `events/`"
            }
            S3Failure::Unreachable => {
                "check s3.endpoint, and whether pods reach it: a firewall, a proxy, its certificate"
            }
        }
    }
}

/// The last failure in a log, and its line.
pub fn failure(log: &str) -> Option<(S3Failure, String)> {
    log.lines().rev().find_map(|line| {
        let (_, failure) = SIGNS.iter().find(|(sign, _)| line.contains(sign))?;
        let line = ["Exception in thread \"main\" ", "Caused by: "]
            .iter()
            .fold(line.trim(), |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
        Some((*failure, line.chars().take(LENGTH_MAX).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cause_in_a_stack_trace() {
        // Shortened from real logs.
        for (line, expected) in [
            (
                "Caused by: java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found",
                S3Failure::Jars,
            ),
            (
                "Exception in thread \"main\" java.nio.file.AccessDeniedException: s3a://logs/events: getFileStatus on s3a://logs/events: \
                 software.amazon.awssdk.services.s3.model.S3Exception: FORBIDDEN (Service: S3, Status Code: 403, Request ID: pX):null",
                S3Failure::Keys,
            ),
            (
                "Exception in thread \"main\" java.nio.file.AccessDeniedException: s3a://logs/events: \
                 org.apache.hadoop.fs.s3a.auth.NoAuthWithAWSException: No AWS Credentials provided by \
                 EnvironmentVariableCredentialsProvider ProfileCredentialsProvider",
                S3Failure::Keys,
            ),
            (
                "Exception in thread \"main\" org.apache.hadoop.fs.s3a.UnknownStoreException: `s3a://gone/events': getFileStatus on \
                 s3a://gone/events: software.amazon.awssdk.services.s3.model.NoSuchBucketException: The specified bucket does not exist",
                S3Failure::Bucket,
            ),
            (
                "Exception in thread \"main\" java.lang.IllegalArgumentException: requirement failed: None of the specified log \
                 directories exist: s3a://logs/nofolder",
                S3Failure::Folder,
            ),
            (
                "Caused by: software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: Connect to \
                 127.0.9.7:5555 [/127.0.9.7] failed: Connection refused (SDK Attempt Count: 6)",
                S3Failure::Unreachable,
            ),
        ] {
            let log = format!(
                "INFO started\n{line}\n\tat org.apache.hadoop.fs.s3a.S3AUtils.translateException(S3AUtils.java:277)\n"
            );
            let (found, shown) = failure(&log).unwrap();
            assert_eq!(found, expected, "{line}");
            assert!(
                line.ends_with(&shown) && !shown.contains("Exception in thread"),
                "{shown}"
            );
        }
        assert_eq!(failure("INFO Started\nERROR Something else: Status Code: 403\n"), None);
    }
}
