-- The health of a Backup or a Restore.
local health = {status = "Progressing", message = "The controller has not seen this generation yet."}
local status = obj.status
if status == nil or (status.observedGeneration or -1) < (obj.metadata.generation or 0) then
  return health
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local function holds(kind)
  return found[kind] ~= nil and found[kind].status == "True"
end
local function told(kind)
  local condition = found[kind]
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end
if holds("Complete") then
  health.status, health.message = "Healthy", told("Complete")
elseif holds("Failed") then
  health.status, health.message = "Degraded", told("Failed")
elseif holds("Stalled") then
  health.status, health.message = "Degraded", told("Stalled")
elseif holds("Suspended") then
  health.status, health.message = "Suspended", told("Suspended")
else
  health.message = status.phase or "Pending"
end
return health
