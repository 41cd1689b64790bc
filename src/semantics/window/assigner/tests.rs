//! Assigners: against brute force and at the ends of time.
