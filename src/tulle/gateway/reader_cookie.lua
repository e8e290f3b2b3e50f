-- Takes a portal reader's cookie out of a request. Cookies know no ports: a browser in which somebody signed in to the
-- portal sends it to every program of the machine, and none behind the gateway may read as them. All other cookies pass
-- as they came. What cannot be read is taken away whole.
local BEGINS = "tulle-reader-"

local function without(headers)
  local kept = {}
  for at = 0, headers:getNumValues("cookie") - 1 do
    for part in headers:getAtIndex("cookie", at):gmatch("[^;]+") do
      local cookie = part:gsub("^%s+", "")
      if cookie ~= "" and cookie:sub(1, #BEGINS) ~= BEGINS then kept[#kept + 1] = cookie end
    end
  end
  return table.concat(kept, "; ")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local fine, cookies = pcall(without, headers)
  headers:remove("cookie")
  if fine and cookies ~= "" then headers:add("cookie", cookies) end
end
