/** Runs a pipeline in the order of Jenkins, also after failures. Subclasses define what a step does. */
abstract class Build {
  /** A pipeline sets it as `currentBuild.description`. */
  String description = ''
  protected final String branch
  protected final List<String> stages = []
  protected final List<String> agents = []
  /** Tests failed, and no step did. */
  protected boolean unstable = false
  private final Steps steps = new Steps(this)

  Build(String branch) { this.branch = branch }

  abstract void skipped(Section section)
  /** May fail as a step does. */
  abstract void entered(Section section)
  /** The steps have ended, or one has failed; `post` is next. */
  abstract void stepsEnded(Section section)
  /** Called for each entered section; `outcome` is success, failure or aborted. */
  abstract void left(Section section, String outcome)

  abstract void shell(String script)
  abstract void echo(String text)
  abstract void junit(Map options)
  abstract void coverage(Map options)
  abstract void archive(Map options)
  abstract void stash(Map options)
  abstract void unstash(String name)
  abstract boolean exists(String path)
  abstract String read(String path)
  /** Each binding has the id of the credential, its kind, and its variables. */
  abstract void credentials(List<Map> bindings, Closure body)
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
    boolean hasAgent = section.agent != null && section.agent != 'none'
    if (hasAgent) agents.add(section.agent)
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
      // An unknown step is an error in the file or in this harness, and not a failed build.
      outcome = 'failure'
      throw unknown
    } catch (Exception failed) {
      outcome = 'failure'
      throw new StepFailed(failed.toString())
    } finally {
      try {
        stepsEnded(section)
        post(section, outcome)
      } finally {
        left(section, outcome)
        if (hasAgent) agents.removeLast()
        if (section.name != null) stages.removeLast()
      }
    }
  }

  /** Runs all matching conditions. If one fails, the others still run, and the build fails. */
  private void post(Section section, String outcome) {
    List<String> conditions = ['always', outcome] + (outcome == 'success' ? [] : ['unsuccessful']) + ['cleanup']
    StepFailed first = null
    conditions.findAll { section.post[it] != null }.each { name ->
      try {
        Declarative.within(steps, section.post[name])
      } catch (StepFailed failed) {
        echo("Error when executing ${name} post condition: ${failed.message}")
        first = first ?: failed
      }
    }
    if (first != null && outcome == 'success') throw first
  }

  protected void requireAgent(String step) {
    if (agents.empty) throw new StepFailed("${step} needs an agent")
  }
}
