-- The health of a BackupStore or a BackupSchedule.
local health = {status = "Progressing", message = "The controller has not seen this generation yet."}
local status = obj.status
if status == nil or (status.observedGeneration or -1) < (obj.metadata.generation or 0) then
  return health
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local function told(condition)
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end
if found.Stalled ~= nil and found.Stalled.status == "True" then
  health.status, health.message = "Degraded", told(found.Stalled)
elseif obj.spec.suspend then
  health.status, health.message = "Suspended", "spec.suspend is true"
elseif status.suspendedBecause ~= nil then
  health.status, health.message = "Suspended", told(status.suspendedBecause)
elseif found.Ready == nil then
  health.message = "Not looked at yet."
elseif found.Ready.status == "True" then
  health.status, health.message = "Healthy", told(found.Ready)
elseif found.Ready.status == "False" then
  health.status, health.message = "Degraded", told(found.Ready)
else
  health.message = told(found.Ready)
end
return health
