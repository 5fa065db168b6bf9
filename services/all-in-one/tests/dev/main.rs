//! `wallet dev` as a stranger runs it: the built program, its children, its ports and its folder.

#[cfg(test)]
mod laptop;

#[cfg(test)]
mod living;

#[cfg(test)]
mod refusing;
