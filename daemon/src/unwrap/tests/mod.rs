//! Whole messages through `peel`; the steps have their own tests beside them.

mod samples;
