//! This machine's capacity: memory.

use crate::spec::quantity::Memory;

/// Total memory, and memory available to new processes; `None` if /proc/meminfo lacks them.
pub fn memory() -> Option<(Memory, Memory)> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_meminfo(text: &str) -> Option<(Memory, Memory)> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Memory::from_mib(kib / 1024))
    };
    Some((field("MemTotal")?, field("MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_meminfo() {
        let text = "MemTotal:       24683520 kB\nMemFree:        20000000 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(
            parse_meminfo(text),
            Some((Memory::from_mib(24105), Memory::from_mib(22460)))
        );
    }
}
