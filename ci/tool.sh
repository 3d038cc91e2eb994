# To be sourced. `tool cargo-fuzz 0.13.2` puts a tool on the path, and builds it below target/ if
# there is none.
tool() {
    local root=$PWD/target/tools
    PATH=$root/bin:$PATH
    command -v "$1" >/dev/null || cargo install --quiet --locked --root "$root" "$1@$2"
}
