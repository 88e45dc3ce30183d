//! The command line against a real daemon: what each verb promises, what it prints, and that what is
//! refused is refused in one line and leaves nothing half-made.

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/endpoints.rs"]
mod endpoints;
#[path = "cli/mapping.rs"]
mod mapping;
#[path = "cli/masquerade.rs"]
mod masquerade;
#[path = "cli/namespaces.rs"]
mod namespaces;
#[path = "cli/networks.rs"]
mod networks;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/shapes.rs"]
mod shapes;
