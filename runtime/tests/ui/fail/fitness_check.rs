struct Model;

#[podwork::fitness_check]
fn with_a_state(model: &Model) -> podwork::Result<()> {
    Ok(())
}

#[podwork::fitness_check(always)]
fn with_an_argument() {}

#[podwork::fitness_check]
fn generic<T>() {}

#[podwork::fitness_check]
fn returns_something_else() -> u32 {
    1
}

#[podwork::fitness_check]
struct NoFunction;

fn main() {}
