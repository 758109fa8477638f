//! In which order containers are started, and the reverse of it for stopping.
//!
//! Pure; what a dependency is was found out in `discover`.

use std::collections::BTreeMap;

use crate::model::application::Container;

/// The indices of `containers` so that each comes after those it depends on. Where dependencies go in a circle, the circle is
/// entered at its first container by name; containers that do not depend on each other stay sorted by name.
pub fn start_order(containers: &[&Container]) -> Vec<usize> {
    let by_name: BTreeMap<&str, usize> = containers.iter().enumerate().map(|(index, container)| (container.name.as_str(), index)).collect();
    let mut order = Vec::with_capacity(containers.len());
    let mut state = vec![Visit::New; containers.len()];
    // An explicit stack: a chain of ten thousand dependencies is no reason to run out of ours.
    for &first in by_name.values() {
        let mut stack = vec![Step::Enter(first)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Enter(index) if state[index] == Visit::New => {
                    state[index] = Visit::Begun;
                    stack.push(Step::Leave(index));
                    let mut needed: Vec<usize> =
                        containers[index].depends_on.iter().filter_map(|needs| by_name.get(needs.container.as_str()).copied()).collect();
                    needed.sort_unstable_by(|a, b| containers[*b].name.cmp(&containers[*a].name));
                    stack.extend(needed.into_iter().map(Step::Enter));
                }
                Step::Enter(_) => {}
                Step::Leave(index) => order.push(index),
            }
        }
    }
    // Two containers of one name (it comes from a repository, so it may say anything) are still both there.
    order.extend((0..containers.len()).filter(|index| state[*index] == Visit::New).collect::<Vec<_>>());
    order
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Begun,
}

enum Step {
    Enter(usize),
    Leave(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::quiesce::tests::container;

    fn order(containers: &[(&str, &[&str])]) -> Vec<String> {
        let made: Vec<Container> = containers.iter().map(|(name, needs)| container(name, needs)).collect();
        let references: Vec<&Container> = made.iter().collect();
        start_order(&references).into_iter().map(|index| made[index].name.clone()).collect()
    }

    #[test]
    fn each_comes_after_what_it_needs() {
        assert_eq!(order(&[("web", &["app"]), ("app", &["db", "cache"]), ("db", &[]), ("cache", &[])]), ["cache", "db", "app", "web"]);
        assert_eq!(order(&[("b", &[]), ("a", &[]), ("c", &["gone"])]), ["a", "b", "c"]);
    }

    #[test]
    fn circles_and_twins_lose_nobody() {
        assert_eq!(order(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])]), ["c", "b", "a", "d"]);
        assert_eq!(order(&[("a", &["a"])]), ["a"]);
        assert_eq!(order(&[("a", &[]), ("a", &[])]).len(), 2);
    }
}
