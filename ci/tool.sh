# Sourced: `tool cargo-fuzz 0.13.2` builds a tool below target/ unless there is one, and puts it on the path.
tool() {
    local root=$PWD/target/tools
    PATH=$root/bin:$PATH
    command -v "$1" >/dev/null || cargo install --quiet --locked --root "$root" "$1@$2"
}
