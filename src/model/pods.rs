//! What the status of a pod says.

/// Whether a pod in this phase has ended. Its status keeps its address, although another pod may have that by now.
pub fn has_ended(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
