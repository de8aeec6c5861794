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

/// How many names are listed.
const MOST_NAMES: usize = 5;

/// The first names, and how many more there are.
pub fn listed(names: &[impl AsRef<str>]) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let first: Vec<_> = names[..names.len() - more].iter().map(AsRef::as_ref).collect();
    let first = first.join(", ");
    match more {
        0 => first,
        _ => format!("{first} and {more} more"),
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

    #[test]
    fn only_the_first_of_many_names_are_listed() {
        let said = |count: usize| listed(&(0..count).map(|n| format!("w{n}")).collect::<Vec<_>>());
        assert_eq!(
            [0, 1, 5, 6, 1000].map(said),
            [
                "",
                "w0",
                "w0, w1, w2, w3, w4",
                "w0, w1, w2, w3, w4 and 1 more",
                "w0, w1, w2, w3, w4 and 995 more"
            ]
        );
    }
}
