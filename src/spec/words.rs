//! Plurals and verbs that agree with numbers.

/// `1 core`, `2 cores`.
pub fn counted(count: impl ToString, noun: &str) -> String {
    match &*count.to_string() {
        "1" => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// The verb for a count: `0 of 1 worker is registered`, `1 of 2 workers are registered`.
pub fn are(count: impl ToString) -> &'static str {
    match &*count.to_string() {
        "1" => "is",
        _ => "are",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_and_verbs_agree_with_numbers() {
        let said = |count: usize| format!("{} {} there", counted(count, "pod"), are(count));
        assert_eq!(
            [0, 1, 2].map(said),
            ["0 pods are there", "1 pod is there", "2 pods are there"]
        );
        assert_eq!(counted(11_u32, "core"), "11 cores");
    }
}
