/** Goes through a pipeline as Jenkins would: in which order, after which failure what. What a step does, its kind says. */
abstract class Build {
  /** What a pipeline sets as `currentBuild.description`. */
  String description = ''
  protected final String branch
  protected final List<String> stages = []
  protected final List<String> agents = []
  /** Tests failed that no step failed for. */
  protected boolean unstable = false
  private final Steps steps = new Steps(this)

  Build(String branch) { this.branch = branch }

  abstract void skipped(Section section)
  /** May fail as a step does. */
  abstract void entered(Section section)
  /** Its steps are over, or what is left of them is given up; its `post` comes. */
  abstract void over(Section section)
  /** Also where it failed; `outcome` is success, failure or aborted. */
  abstract void left(Section section, String outcome)

  abstract void shell(String script)
  abstract void echo(String text)
  abstract void junit(Map given)
  abstract void coverage(Map given)
  abstract void archive(Map given)
  abstract void stash(Map given)
  abstract void unstash(String name)
  abstract boolean exists(String path)
  abstract String read(String path)
  /** Each of `wanted` has the credential's id, its kind, and its variables. */
  abstract void credentials(List<Map> wanted, Closure body)
  abstract void sonarqube(String server, Closure body)
  abstract void gate(boolean abortPipeline)

  Map run(Section pipeline) {
    String result = 'SUCCESS'
    String why = ''
    try {
      section(pipeline)
    } catch (StepFailed failed) {
      result = 'FAILURE'
      why = failed.message
    } catch (Stopped stopped) {
      result = 'ABORTED'
      why = stopped.message
    }
    if (unstable && result == 'SUCCESS') result = 'UNSTABLE'
    [result: result, why: why, description: description]
  }

  private void section(Section section) {
    if (!Declarative.holds(section, branch)) {
      skipped(section)
      return
    }
    if (section.name != null) stages.add(section.name)
    boolean held = section.agent != null && section.agent != 'none'
    if (held) agents.add(section.agent)
    String outcome = 'success'
    try {
      entered(section)
      section.stages.each { this.section(it) }
      if (section.steps != null) Declarative.within(steps, section.steps)
    } catch (StepFailed failed) {
      outcome = 'failure'
      throw failed
    } catch (Stopped stopped) {
      outcome = 'aborted'
      throw stopped
    } catch (MissingMethodException | MissingPropertyException unknown) {
      // A step that there is none of is a fault of the file, or of this harness, and no build that failed.
      outcome = 'failure'
      throw unknown
    } catch (Exception failed) {
      outcome = 'failure'
      throw new StepFailed(failed.toString())
    } finally {
      try {
        over(section)
        post(section, outcome)
      } finally {
        left(section, outcome)
        if (held) agents.removeLast()
        if (section.name != null) stages.removeLast()
      }
    }
  }

  /** All that is wanted, though one of them fails: that fails the build as well. */
  private void post(Section section, String outcome) {
    List<String> wanted = ['always', outcome] + (outcome == 'success' ? [] : ['unsuccessful']) + ['cleanup']
    StepFailed first = null
    wanted.findAll { section.post[it] != null }.each { name ->
      try {
        Declarative.within(steps, section.post[name])
      } catch (StepFailed failed) {
        echo("Error when executing ${name} post condition: ${failed.message}")
        first = first ?: failed
      }
    }
    if (first != null && outcome == 'success') throw first
  }

  protected void onAgent(String step) {
    if (agents.empty) throw new StepFailed("${step} needs an agent")
  }
}
