//! Words for people that several folders use.

/// `1 core`, `2 cores`.
pub fn counted(count: u32, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
