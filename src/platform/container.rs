//! Whether this process runs in a container of the Docker Engine, and in which.

use std::fs;

/// The id of the container that this process runs in; none outside of containers and where it cannot be told.
///
/// The Engine mounts a container's `hostname`, `hosts` and `resolv.conf` from a folder that is named after it.
pub fn own_id() -> Option<String> {
    own_id_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

fn own_id_in(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if !matches!(point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") {
            return None;
        }
        let id = root.split_once("/containers/")?.1.split('/').next()?;
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_engine_mounts_into_a_container_tells() {
        let id = "0123456789abcdef".repeat(4);
        let inside = format!("701 690 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw");
        assert_eq!(own_id_in(&inside), Some(id.clone()));
        let host = format!("90 25 0:50 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n1 0 8:1 / / rw - ext4 /dev/sda1 rw");
        assert_eq!(own_id_in(&host), None);
        assert_eq!(own_id_in("garbage\n\n1 2"), None);
    }
}
