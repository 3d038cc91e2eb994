//! What a journal costs: see the library.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    oncewheel_report::journal_cost()
}
