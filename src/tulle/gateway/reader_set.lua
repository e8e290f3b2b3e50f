-- Takes out of an answer what would set a portal reader's cookie. Cookies know no ports: what an external service sets
-- here, a browser sends to the portal, and somebody would read and sign as whom that service says. A cookie without a
-- name is sent as its value alone, so what is left of a leading `=` is looked at. All others pass as they came.
local BEGINS = "tulle-reader-"

local function kept(headers)
  local found, lacks = {}, false
  for at = 0, headers:getNumValues("set-cookie") - 1 do
    local said = headers:getAtIndex("set-cookie", at)
    if said:gsub("^[%s=]+", ""):sub(1, #BEGINS) == BEGINS then lacks = true else found[#found + 1] = said end
  end
  return found, lacks
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("set-cookie") == nil then return end
  local fine, found, lacks = pcall(kept, headers)
  if fine and not lacks then return end
  headers:remove("set-cookie")
  for _, one in ipairs(fine and found or {}) do headers:add("set-cookie", one) end
end
