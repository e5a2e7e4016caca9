//! What the README shows is what compiles.

#[test]
fn the_readme_shows_the_example() {
    let (readme, example) = (include_str!("../../README.md"), include_str!("../../examples/managed.rs"));
    let code = example.split_once("\n\n").expect("a header").1;
    assert!(readme.contains(code), "copy examples/managed.rs without its header into README.md");
}
