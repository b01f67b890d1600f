# The `mounts` of cloud-config, entries of one line each ("- [device, directory, type, options, ...]"), as "DEVICE DIRECTORY TYPE OPTIONS".
/^[a-z_]+:/ { inside = /^mounts:/ }
inside {
    while (match($0, /\[[^][]*\]/)) {
        entry = substr($0, RSTART + 1, RLENGTH - 2)
        $0 = substr($0, RSTART + RLENGTH)
        gsub(/["']/, "", entry)
        fields = entry
        # Options have commas of their own, which were within quotes: the two last fields are numbers.
        gsub(/ *, */, " ", fields)
        n = split(fields, field, " ")
        options = ""
        for (i = 4; i <= n && field[i] !~ /^[0-9]+$/; i++) options = options (options == "" ? "" : ",") field[i]
        if (n >= 2) print field[1], field[2], (n >= 3 ? field[3] : "auto"), (options == "" ? "defaults" : options)
    }
}
