# A NoCloud network-config of version 2, YAML in blocks or JSON, as lines of "MAC WHAT VALUE...". Whatever is no key of it is the name of
# an interface.
BEGIN {
    split("network version renderer ethernets match macaddress driver name set-name addresses mtu routes to via scope on-link metric " \
        "nameservers search dhcp4 dhcp6 gateway4 gateway6 accept-ra type optional link-local", words, " ")
    for (i in words) known[words[i]] = 1
}
function route() {
    if (to != "") lines[++count] = "route " to " " (via == "" ? "-" : via)
    to = via = ""
}
function flush(i) {
    route()
    if (mac != "") for (i = 1; i <= count; i++) print mac, lines[i]
    count = 0
    mac = ""
}
{
    sub(/^ *#.*/, "")
    gsub(/["']:/, ": ")
    gsub(/[][{},"']/, " ")
    for (i = 1; i <= NF; i++) {
        word = $i
        if (word == "-") continue
        if (word ~ /^[A-Za-z][A-Za-z0-9._-]*:$/) {
            key = substr(word, 1, length(word) - 1)
            if (!(key in known)) { flush(); key = "" }
            if (key == "to") route()
            continue
        }
        if (key == "macaddress") mac = tolower(word)
        else if (key == "addresses") lines[++count] = (word ~ /\// ? "address " : "dns ") word
        else if (key == "search" || key == "mtu" || key == "dhcp4") lines[++count] = key " " word
        else if (key == "gateway4" || key == "gateway6") lines[++count] = "route default " word
        else if (key == "to") to = word
        else if (key == "via") via = word
    }
}
END { flush() }
