-- Announces who expired.
local left = {}
prune(left)
announce({}, left)
