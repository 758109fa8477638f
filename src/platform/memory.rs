//! How the C library gives memory back.

/// From this size on, memory is the kernel's as soon as it is free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 20;

/// Makes large buffers leave the process when they are freed, whatever was freed before. To be called before there are other threads.
///
/// Left to itself, the C library of GNU keeps blocks of up to 32 MiB once one of that size was freed, in a heap for each thread:
/// packs of 16 MiB that come and go made a backup half as large again.
pub fn give_back_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the setting has no safe door")]
        // SAFETY: it takes two numbers and no memory of ours; it fails by returning 0, and then all is as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
