//! In which order containers are started, and the reverse of it for stopping.
//!
//! Pure; what a dependency is was found out in `discover`.

use std::collections::BTreeMap;

use crate::model::application::Container;

/// The indices of `containers` so that each comes after those it depends on. Where dependencies go in a circle, the circle is
/// entered at its first container by name; containers that do not depend on each other stay sorted by name.
pub fn start_order(containers: &[&Container]) -> Vec<usize> {
    start_order_by(containers, |_| 0)
}

/// As [`start_order`], but of those that do not depend on each other the one with the lowest priority comes first.
pub(super) fn start_order_by(containers: &[&Container], priority: impl Fn(&Container) -> i64) -> Vec<usize> {
    let by_name: BTreeMap<&str, usize> = containers.iter().enumerate().map(|(index, container)| (container.name.as_str(), index)).collect();
    let mut order = Vec::with_capacity(containers.len());
    let mut state = vec![Visit::New; containers.len()];
    // An explicit stack: a chain of ten thousand dependencies is no reason to run out of ours.
    let rank = |index: usize| (priority(containers[index]), containers[index].name.as_str());
    let mut firsts: Vec<usize> = by_name.values().copied().collect();
    firsts.sort_by_key(|index| rank(*index));
    for first in firsts {
        let mut stack = vec![Step::Enter(first)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Enter(index) if state[index] == Visit::New => {
                    state[index] = Visit::Begun;
                    stack.push(Step::Leave(index));
                    let mut needed: Vec<usize> =
                        containers[index].depends_on.iter().filter_map(|needs| by_name.get(needs.container.as_str()).copied()).collect();
                    needed.sort_unstable_by(|a, b| rank(*b).cmp(&rank(*a)));
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
    fn priority_decides_what_dependencies_leave_open() {
        let made = [container("a", &[]), container("b", &[]), container("c", &["b"]), container("d", &[])];
        let references: Vec<&Container> = made.iter().collect();
        let order = |priorities: [i64; 4]| -> String {
            let priority = |one: &Container| priorities[made.iter().position(|made| made.name == one.name).unwrap_or(0)];
            start_order_by(&references, priority).into_iter().map(|index| made[index].name.as_str()).collect()
        };
        assert_eq!(order([0, 0, 0, 0]), "abcd");
        assert_eq!(order([9, 0, 0, -1]), "dbca");
        assert_eq!(order([1, 9, 0, 2]), "bcad", "what c needs comes before it, whatever its priority");
    }

    #[test]
    fn circles_and_twins_lose_nobody() {
        assert_eq!(order(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])]), ["c", "b", "a", "d"]);
        assert_eq!(order(&[("a", &["a"])]), ["a"]);
        assert_eq!(order(&[("a", &[]), ("a", &[])]).len(), 2);
    }
}
